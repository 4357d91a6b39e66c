//! What a peer presents as its identity, what a person types as one, and what lies on disk.

use towline_identity::{
    Certificate, CertificateId, Chain, DeviceId, PrivateKey, PublicKey, RevocationList, ShortId, TrustStore,
};

/// Object identifiers, labels and frames of PEM and DER.
pub(super) const WORDS: &[&[u8]] = &[
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    b"-----END PRIVATE KEY-----\n",
    b"-----BEGIN X509 CRL-----\n",
    b"-----END X509 CRL-----\n",
    &[0x06, 0x03, 0x55, 0x1d, 0x14],
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d],
    &[0x06, 0x03, 0x55, 0x04, 0x03],
    &[0x06, 0x0a, 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01],
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d],
    &[0x17, 0x0d],
    &[0x18, 0x0f],
    &[0x02, 0x01, 0xff],
    &[0x30, 0x80],
    &[0x00, 0x00],
];

/// Words of ids and of the trust file.
pub(super) const ID_WORDS: &[&[u8]] =
    &[b"allowed ", b"banned ", b"\n", b"#", b"0x", b"AB", "é".as_bytes(), "٠".as_bytes(), b"\r"];

/// A chain, packed as PEM or DER: what is read packs to the same certificates.
pub(super) fn certificates(input: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(input) {
        assert_eq!(certificate.der(), input);
        let _ = certificate.verify_issued_by(&certificate);
        let _ = certificate.validity().contains(0);
        let _ = certificate.is_ca();
    }
    if let Ok(chain) = Chain::unpack(input) {
        let again = Chain::unpack(chain.pack().as_bytes()).expect("our own packing unpacks");
        assert_eq!(again.ders(), chain.ders());
        let _ = chain.verify_links();
        let _ = chain.verify_validity(0);
        let _ = chain.account_id();
    }
}

/// A key file, as PEM or DER. Without a password: stretching one is slow on purpose.
pub(super) fn private_key(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = PrivateKey::from_pkcs8_pem(text, None);
    }
    if let Ok(key) = PrivateKey::from_pkcs8_der(input) {
        let again = PrivateKey::from_pkcs8_der(&key.to_pkcs8_der()).expect("our own encoding decodes");
        assert_eq!(again.public().spki_der(), key.public().spki_der());
    }
}

/// A public key, as values of the DHT carry it.
pub(super) fn public_key(input: &[u8]) {
    if let Ok(key) = PublicKey::from_spki_der(input) {
        assert_eq!(
            PublicKey::from_spki_der(key.spki_der()).map(|again| again.device_id()),
            Ok(key.device_id())
        );
        let _ = key.verify(b"message", input);
        let _ = key.encrypt(b"short");
    }
}

/// Ids as arguments of the program, and the trust file.
pub(super) fn ids(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(id) = text.parse::<DeviceId>() {
        assert_eq!(id.to_string(), text.to_lowercase());
    }
    if let Ok(id) = text.parse::<ShortId>() {
        assert_eq!(id.to_string(), text.to_lowercase());
    }
    let _ = text.parse::<CertificateId>();
    if let Ok(store) = TrustStore::from_text(&text) {
        let again = TrustStore::from_text(&store.to_text()).expect("our own text is read");
        assert!(again.iter().eq(store.iter()));
    }
}

/// A revocation list, as DER or PEM: what is read keeps its bytes.
pub(super) fn revocation_list(input: &[u8]) {
    if let Ok(list) = RevocationList::from_der(input) {
        assert_eq!(list.der(), input);
        let again = RevocationList::from_pem(&list.to_pem()).expect("our own packing unpacks");
        assert_eq!(again.der(), list.der());
        assert!(list.serials().all(|serial| !serial.is_empty()));
        assert!(list.signed_part().len() < input.len());
        let _ = (list.number(), list.this_update(), list.next_update(), list.issuer_der());
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = RevocationList::from_pem(text);
    }
}
