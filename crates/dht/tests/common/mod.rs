//! Reading the vectors.
#![allow(dead_code, reason = "every test takes what it needs")]

use serde_json::Value as Json;
use towline_identity::PrivateKey;

pub(crate) fn load(text: &str) -> Json {
    serde_json::from_str(text).expect("vectors are JSON")
}

pub(crate) fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().expect("hex is a string")).expect("hex")
}

/// One of the public test keys: alice and bob have RSA-2048, carol RSA-4096.
pub(crate) fn key(name: &str) -> PrivateKey {
    let crypto = load(include_str!("../vectors/crypto.json"));
    let pem = crypto["keys"][name]["private_pkcs8_pem"].as_str().expect("a key of this name");
    PrivateKey::from_pkcs8_pem(pem, None).expect("a private key")
}
