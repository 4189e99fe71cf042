//! JSON schemas, as far as the description of the API uses them: values checked against them, and made from them.

use serde_json::{Value, json};

/// A source of numbers that is the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// What `$ref` names.
pub(crate) fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let found = document.pointer(reference.trim_start_matches('#'));
            resolved(document, found.unwrap_or_else(|| panic!("{reference} is nowhere")))
        }
        None => schema,
    }
}

/// Fails unless the value is as the schema says.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolved(document, schema);
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value} is none of {allowed:?}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let fits = types.iter().any(|name| match *name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    });
    assert!(fits, "{place}: expected {types:?}, found {value}");
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            assert!(object.contains_key(name), "{place}: {name} is missing in {value}");
        }
        if let Some(properties) = schema["properties"].as_object() {
            for (name, value) in object {
                let place = format!("{place}.{name}");
                let property = properties.get(name);
                check(
                    document,
                    property.unwrap_or_else(|| panic!("{place} is not described")),
                    value,
                    &place,
                );
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, place);
    }
    if let Some(number) = value.as_f64() {
        assert!(schema["minimum"].as_f64().is_none_or(|least| number >= least), "{place}: {value}");
        assert!(schema["maximum"].as_f64().is_none_or(|most| number <= most), "{place}: {value}");
    }
}

/// A value as the schema says.
pub(crate) fn valid(document: &Value, schema: &Value, dice: &mut Dice) -> Value {
    let schema = resolved(document, schema);
    if let Some(allowed) = schema["enum"].as_array() {
        return dice.pick(allowed).clone();
    }
    let name = match &schema["type"] {
        Value::Array(several) => dice.pick(several).as_str().unwrap_or("null").to_owned(),
        one => one.as_str().unwrap_or("null").to_owned(),
    };
    let least = schema["minimum"].as_f64().or(schema["exclusiveMinimum"].as_f64()).unwrap_or(-1e3);
    let most = schema["maximum"].as_f64().unwrap_or(1e6);
    let share = (1 + dice.roll(1000)) as f64 / 1000.0;
    match name.as_str() {
        "integer" => {
            let edge = dice.roll(4);
            let value = [least, most, least + (most - least) * share, least][edge];
            json!(value.round() as i64)
        }
        "number" => json!(least + (most - least) * share),
        "boolean" => json!(dice.roll(2) == 0),
        "string" if schema["pattern"].is_string() => {
            json!((0..32).map(|_| char::from(*dice.pick(b"0123456789abcdef"))).collect::<String>())
        }
        "string" => json!(*dice.pick(&[
            "",
            "faces",
            "telea",
            "a harbour",
            "ünïcode ✓",
            "x".repeat(300).as_str()
        ])),
        "array" => {
            let length = dice.roll(3);
            (0..length).map(|_| valid(document, &schema["items"], dice)).collect()
        }
        "object" => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let mut object = serde_json::Map::new();
            for (name, property) in properties {
                if dice.roll(3) == 0 || required.contains(&json!(name)) {
                    object.insert(name, valid(document, &property, dice));
                }
            }
            Value::Object(object)
        }
        _ => Value::Null,
    }
}

/// A value with something wrong in it, most of the time.
pub(crate) fn invalid(document: &Value, schema: &Value, dice: &mut Dice) -> Value {
    let anything = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(18_446_744_073_709_551_615_u64),
        json!(0.5),
        json!("x"),
        json!("../../etc/passwd"),
        json!([]),
        json!([[[[]]]]),
        json!({ "": {} }),
        json!(true),
        json!("\u{0}\u{1f}"),
    ];
    let mut value = valid(document, schema, dice);
    if let Value::Object(object) = &mut value {
        let schema = resolved(document, schema);
        let names: Vec<String> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let name = if names.is_empty() || dice.roll(5) == 0 {
            "unknown".to_owned()
        } else {
            dice.pick(&names).clone()
        };
        object.insert(name, dice.pick(&anything).clone());
        return value;
    }
    dice.pick(&anything).clone()
}
