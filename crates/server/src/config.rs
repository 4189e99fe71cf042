//! Where the server listens, where it keeps pictures, and its limits.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Result, ServerError};

/// Everything that is decided before the server starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on. Default: 127.0.0.1.
    pub host: IpAddr,
    /// The port; 0 for any free one. Default: 7860.
    pub port: u16,
    /// Further names that browsers may call this server by, beside IP addresses and `localhost`.
    pub names: Vec<String>,
    /// What every request to the API must bring as `Authorization: Bearer`; needed beyond loopback. Default: none.
    pub token: Option<String>,
    /// The folder for pictures and results; made if it does not exist.
    pub data: PathBuf,
    /// How long pictures, masks and results are kept after they were last used. Default: 72 hours.
    pub keep: Duration,
    /// What is refused.
    pub limits: Limits,
}

/// What is refused, so that memory, disk and waiting stay bounded.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an uploaded file. Default: 512 MB.
    pub upload_bytes: u64,
    /// Pixels of a picture, told from its header. Default: 300 million.
    pub pixels: u64,
    /// Restorations that may wait. Default: 64.
    pub queue: usize,
    /// Requests that may wait for detection or for views, and uploads at a time. Default: 256.
    pub waiting: usize,
    /// Connections at a time; more wait until one is closed. Default: 512.
    pub connections: usize,
    /// Pictures that are kept. Default: 1000.
    pub pictures: usize,
    /// Restorations that are kept of one picture. Default: 50.
    pub jobs: usize,
    /// How long one restoration may take. Default: 6 hours.
    pub job_time: Duration,
    /// How long an upload may send nothing, and a connection no whole request. Default: 30 s.
    pub idle: Duration,
}

impl Config {
    /// On loopback, without a token, with every limit at its default.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 7860,
            names: Vec::new(),
            token: None,
            data,
            keep: Duration::from_secs(72 * 3600),
            limits: Limits::default(),
        }
    }

    /// `Ok` if the settings go together.
    ///
    /// # Errors
    /// [`ServerError::Setting`] for a token that no header can carry, or none where one is needed.
    pub fn check(&self) -> Result<()> {
        let setting = |name, expected: &str, found: &str| {
            Err(ServerError::Setting {
                name,
                expected: expected.to_owned(),
                found: found.to_owned(),
            })
        };
        match &self.token {
            None if !self.host.is_loopback() => {
                setting("token", "one, as the server listens beyond this machine", "none")
            }
            Some(token) if token.len() < 8 => {
                setting("token", "at least 8 characters", &format!("{}", token.len()))
            }
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                setting("token", "printable ASCII characters without spaces", "others")
            }
            _ => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 512_000_000,
            pixels: 300_000_000,
            queue: 64,
            waiting: 256,
            connections: 512,
            pictures: 1000,
            jobs: 50,
            job_time: Duration::from_secs(6 * 3600),
            idle: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_needed_beyond_loopback_only() {
        let mut config = Config::new(PathBuf::from("data"));
        config.check().expect("loopback needs none");
        config.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let error = config.check().expect_err("it needs one").to_string();
        assert_eq!(
            error,
            "token: expected one, as the server listens beyond this machine, found none"
        );
        config.token = Some("0123456789abcdef".to_owned());
        config.check().expect("it has one");
        for token in ["short", "with a space", "übermäßig"] {
            config.token = Some(token.to_owned());
            assert!(config.check().is_err(), "{token}");
        }
    }
}
