//! Reading the vectors.

use serde_json::Value as Json;

pub fn load(text: &str) -> Json {
    serde_json::from_str(text).expect("vectors are JSON")
}

pub fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().expect("hex is a string")).expect("hex")
}
