//! The description of the API is true: every operation is there, and answers what is described, whatever it is sent.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::schema::{Dice, check, invalid, resolved, valid};
use crate::support::{Site, http::Answer, id, sample};

fn document() -> Value {
    serde_json::from_str(server::OPENAPI).expect("JSON")
}

/// Every operation: method, path, description.
fn described(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let document = document();
    let described: BTreeSet<_> =
        described(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routed: BTreeSet<_> = server::operations()
        .into_iter()
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    assert_eq!(described, routed);

    let site = Site::new();
    assert_eq!(site.client.get("/api/openapi.json").json(), document);
    let mut names = BTreeSet::new();
    for (_, path, operation) in self::described(&document) {
        assert!(names.insert(operation["operationId"].to_string()), "{path}: twice");
        let in_path = path.matches('{').count();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared = parameters
            .iter()
            .filter(|parameter| resolved(&document, parameter)["in"] == "path")
            .count();
        assert_eq!(in_path, declared, "{path}");
    }
}

/// Things that an address can name.
struct Known {
    pictures: Vec<String>,
    jobs: Vec<String>,
}

fn text_of(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[test]
fn whatever_is_sent_is_answered_as_described_and_never_by_a_failure_of_the_server() {
    let document = document();
    let site = Site::with(|config| config.limits.queue = 5);
    let file = sample("damaged/cat.png");
    let mask = sample("mask/cat.png");
    let mut operations = described(&document);
    // What ends things comes after what asks about them, except that nobody could wait for the events of what is slow.
    operations.sort_by_key(|(method, path, _)| {
        (
            !path.ends_with("/cancel"),
            method != "PUT",
            method == "DELETE",
            path.ends_with("{picture}"),
        )
    });
    let mut seen = BTreeSet::new();
    for round in 0..25_u64 {
        // 1. something to ask about
        let picture = site.upload("cat.png", &file);
        let method = ["telea", "slow", "fails", "telea", "biharmonic"][round as usize % 5];
        let job = site.submit(id(&picture), &json!({ "method": method }));
        if round % 5 >= 3 {
            site.wait_for(&job, &["done"]);
        }
        let known = Known { pictures: vec![id(&picture).to_owned()], jobs: vec![job.clone()] };

        // 2. every operation
        for (number, (method, path, operation)) in operations.iter().enumerate() {
            let mut dice = Dice::new(1 + round * 1000 + number as u64);
            let (answer, request) =
                ask(&site, &document, &known, (method, path, operation), [&file, &mask], &mut dice);
            assert!(answer.status < 500, "{request}: {} {}", answer.status, answer.text());
            check_answer(&document, operation, &answer, &request);
            seen.insert((number, answer.status));
            if path.ends_with("/cancel") {
                site.client.post(&format!("/api/jobs/{job}/cancel"), b"");
            }
        }
        site.client.delete(&format!("/api/pictures/{}", id(&picture)));
    }
    let successes: BTreeSet<_> =
        seen.iter().filter(|(_, status)| *status < 300).map(|(number, _)| *number).collect();
    for (number, (method, path, _)) in operations.iter().enumerate() {
        assert!(successes.contains(&number), "{method} {path} has never succeeded");
    }
    assert!(seen.len() > 2 * operations.len(), "and most were refused, too: {seen:?}");
}

fn ask(
    site: &Site,
    document: &Value,
    known: &Known,
    (method, path, operation): (&str, &str, &Value),
    images: [&Vec<u8>; 2],
    dice: &mut Dice,
) -> (Answer, String) {
    // 1. the address
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolved(document, parameter);
        let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
        if parameter["in"] == "path" {
            let ids = if name == "job" { &known.jobs } else { &known.pictures };
            let value = match dice.roll(8) {
                0 => text_of(&valid(document, schema, dice)),
                1 => text_of(&invalid(document, schema, dice)),
                _ => ids[0].clone(),
            };
            let value = if value.is_empty() { "x".to_owned() } else { value };
            target = target.replace(&format!("{{{name}}}"), &value);
        } else if dice.roll(3) > 0 {
            let value = match dice.roll(3) {
                0 => invalid(document, schema, dice),
                _ => valid(document, schema, dice),
            };
            query.push(format!("{name}={}", text_of(&value)));
        }
    }
    if dice.roll(12) == 0 {
        query.push("unknown=1".to_owned());
    }
    if !query.is_empty() {
        target += &format!("?{}", query.join("&"));
    }

    // 2. the body
    let content = &operation["requestBody"]["content"];
    let body = if let Some(schema) = content["application/json"].get("schema") {
        let value = match dice.roll(3) {
            0 => invalid(document, schema, dice),
            _ => valid(document, schema, dice),
        };
        let mut text = value.to_string().into_bytes();
        if dice.roll(10) == 0 {
            text.truncate(dice.roll(text.len()));
        }
        text
    } else if content.is_object() {
        let mut image = (*dice.pick(&images)).clone();
        match dice.roll(4) {
            0 => image.truncate(dice.roll(image.len())),
            1 => image = vec![0; dice.roll(3000)],
            _ => {}
        }
        image
    } else {
        Vec::new()
    };
    let answer = site.client.send(method, &target, &[], &body);
    (answer, format!("{method} {target} {}", String::from_utf8_lossy(&body[..body.len().min(200)])))
}

fn check_answer(document: &Value, operation: &Value, answer: &Answer, request: &str) {
    let described = &operation["responses"][answer.status.to_string()];
    assert!(
        !described.is_null(),
        "{request}: {} is not described: {}",
        answer.status,
        answer.text()
    );
    let described = resolved(document, described);
    let media = answer.header("content-type").split(';').next().unwrap_or_default();
    let Some(content) = described["content"].as_object() else {
        assert!(answer.body.is_empty(), "{request}: {}", answer.text());
        return;
    };
    let content =
        content.get(media).unwrap_or_else(|| panic!("{request}: {media} is not described"));
    if media == "application/json" {
        check(document, &content["schema"], &answer.json(), request);
    }
    if media == "text/event-stream" {
        let job = &document["components"]["schemas"]["Job"];
        answer.events().iter().for_each(|event| check(document, job, event, request));
    }
}
