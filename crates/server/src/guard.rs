//! Who may ask: requests from this page, or from programs that know the token.
//!
//! A web page that somebody visits can send requests to this machine, too. It cannot choose the `Host` and `Origin` that
//! its browser sends: with the first, names that an attacker's DNS has pointed here are told (DNS rebinding), with the
//! second, pages of other origins.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::Config;
use crate::error::Result;
use crate::ids::random_hex;
use crate::problem::Problem;

/// Whom the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// True to answer to loopback addresses only.
    is_local: bool,
    names: Vec<String>,
    token: Option<String>,
}

/// A new token of 128 random bits.
///
/// # Errors
/// [`ServerError::System`](crate::ServerError::System) if the system has no randomness.
pub fn random_token() -> Result<String> {
    random_hex(16)
}

impl Guard {
    pub(crate) fn new(config: &Config) -> Self {
        let names = config.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { is_local: config.host.is_loopback(), names, token: config.token.clone() }
    }

    /// `Ok` if the request comes from our own page, or from a program.
    fn check_source(&self, headers: &HeaderMap) -> Result<(), Problem> {
        // 1. by which name we were found
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::malformed("expected one Host header"));
        };
        let host = host.to_str().unwrap_or("");
        if !self.answers_to(name_of(host)) {
            let message = format!(
                "Host: expected an address of this server{}, found {host:?}",
                if self.is_local { " on loopback" } else { ", or a name given with --allow-host" }
            );
            return Err(Problem::forbidden(message));
        }

        // 2. from which page; programs do not say
        if let Some(origin) = text(header::ORIGIN) {
            let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if own.is_none_or(|own| !own.eq_ignore_ascii_case(host)) {
                let message = format!("Origin: expected this server's own page, found {origin:?}");
                return Err(Problem::forbidden(message));
            }
        }
        Ok(())
    }

    /// `Ok` if nothing of another site asks for what is not the page itself.
    fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
        let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or(""));
        match site {
            None | Some("same-origin" | "none") => Ok(()),
            Some(site) => {
                let message =
                    format!("Sec-Fetch-Site: expected this server's own page, found {site:?}");
                Err(Problem::forbidden(message))
            }
        }
    }

    /// `Ok` if the request brings the token, or needs none.
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        if is_same(given, token.as_bytes()) { Ok(()) } else { Err(Problem::unauthorized()) }
    }

    fn answers_to(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if self.names.contains(&name) || name == "localhost" {
            return true;
        }
        // No DNS stands behind a number.
        name.parse::<IpAddr>().is_ok_and(|address| !self.is_local || address.is_loopback())
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or("");
    }
    host.split(':').next().unwrap_or("")
}

/// Compares in a time that does not tell how much is right.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let differences = given.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == expected.len() && differences == 0
}

/// Lets through what may pass, and marks every answer as private to this page.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let headers = request.headers();
    let checked = guard.check_source(headers).and_then(|()| {
        if is_api {
            Guard::check_site(headers).and_then(|()| guard.check_token(headers))
        } else {
            Ok(())
        }
    });
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if is_api {
        // Photographs stay out of the browser's cache on disk.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Scripts and styles come from here only, nobody frames the page, and nobody else reads what it shows.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_own_names_and_pages_pass() {
        let mut config = Config::new(PathBuf::new());
        let local = Guard::new(&config);
        config.host = IpAddr::from([0, 0, 0, 0]);
        config.names = vec!["Scanner.lan".to_owned()];
        let open = Guard::new(&config);
        for (host, at_home, abroad) in [
            ("127.0.0.1:7860", true, true),
            ("localhost:9000", true, true),
            ("[::1]:7860", true, true),
            ("192.168.1.7:7860", false, true),
            ("scanner.lan:7860", false, true),
            ("evil.example:7860", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("", false, false),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(local.check_source(&headers).is_ok(), at_home, "{host}");
            assert_eq!(open.check_source(&headers).is_ok(), abroad, "{host}");
        }
        for (origin, passes) in [
            ("http://localhost:7860", true),
            ("http://localhost:7861", false),
            ("http://evil.example", false),
            ("null", false),
            ("file://", false),
        ] {
            let headers = headers(&[("host", "localhost:7860"), ("origin", origin)]);
            assert_eq!(local.check_source(&headers).is_ok(), passes, "{origin}");
        }
        assert!(local.check_source(&headers(&[])).is_err());
    }

    #[test]
    fn only_the_token_is_the_token() {
        let mut config = Config::new(PathBuf::new());
        config.token = Some("0123456789".to_owned());
        let guard = Guard::new(&config);
        guard.check_token(&headers(&[("authorization", "Bearer 0123456789")])).expect("it is");
        for other in ["Bearer 012345678", "Bearer 01234567899", "0123456789", "Bearer ", ""] {
            assert!(guard.check_token(&headers(&[("authorization", other)])).is_err(), "{other}");
        }
    }
}
