//! Making identities, trusting them, and keeping them on disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use towline_identity::{
    CHAIN_FILE, Certificate, CertificateError, CertificateStore, Chain, ChainError, DeviceId, Distrust,
    GenerateOptions, Hierarchy, Identity, IdentityFileError, IssueError, KEY_FILE, KeySize, LinkError,
    MAX_CHAIN_CERTIFICATES, MAX_CHAIN_LEN, PrivateKey, PrivateKeyError, PublicKey, StoreError, StoreLimits,
    TEN_YEARS, Trust, TrustError, TrustStore, UnknownPeers, Validity,
};

const NOW: i64 = 1_800_000_000;

fn small() -> GenerateOptions {
    GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(NOW) }
}

/// Making keys is slow: all tests share these.
static ALICE: LazyLock<Hierarchy> = LazyLock::new(|| Hierarchy::generate(&small()).unwrap());
static BOB: LazyLock<Hierarchy> = LazyLock::new(|| Hierarchy::generate(&small()).unwrap());

#[test]
fn a_hierarchy_is_what_jami_makes() {
    let Hierarchy { authority, account, device } = &*ALICE;
    let chain = device.chain();
    let names: Vec<_> = chain.certificates().iter().map(|c| c.subject().common.as_deref().unwrap()).collect();
    assert_eq!(names, ["Jami device", "Jami", "Jami CA"]);
    assert_eq!(chain.verify_links(), Ok(()));
    assert_eq!(device.account_id(), Some(account.short_id().into()));
    assert_eq!(account.account_id(), Some(authority.short_id().into()));
    assert_eq!(authority.account_id(), None);
    assert_eq!(chain.certificates().iter().map(Certificate::is_ca).collect::<Vec<_>>(), [false, true, true]);
    for certificate in chain.certificates() {
        assert_eq!(certificate.subject().short_id(), Some(certificate.short_id()));
        assert_eq!(certificate.validity(), Validity { not_before: NOW, not_after: NOW + TEN_YEARS });
        assert_eq!(certificate.serial().len(), 8);
    }
    assert_eq!(Chain::unpack(chain.pack().as_bytes()).as_ref(), Ok(chain));
}

#[test]
fn an_account_adds_devices() {
    let key = PrivateKey::generate(KeySize::Rsa2048).unwrap();
    let validity = Validity::ten_years_from(NOW);
    let second = ALICE.account.issue_device_certificate(key.public(), "Télé 2", validity).unwrap();
    assert_eq!(second.leaf().subject().common.as_deref(), Some("Télé 2"));
    assert_eq!(second.verify_links(), Ok(()));
    assert_eq!(second.account_id(), ALICE.device.account_id());
    let issue = |issuer: &Identity, name: &str, validity| {
        issuer.issue_device_certificate(key.public(), name, validity).unwrap_err()
    };
    assert_eq!(issue(&ALICE.device, "x", validity), IssueError::NotAuthority);
    assert_eq!(issue(&ALICE.account, "", validity), IssueError::Name(0));
    assert_eq!(issue(&ALICE.account, &"é".repeat(65), validity), IssueError::Name(65));
    let backwards = Validity { not_before: NOW, not_after: NOW - 1 };
    assert_eq!(issue(&ALICE.account, "x", backwards), IssueError::Validity);
    let never = Validity { not_before: NOW, not_after: i64::MAX };
    assert_eq!(issue(&ALICE.account, "x", never), IssueError::Validity);
}

#[test]
fn a_chain_is_bounded() {
    let mut above = ALICE.account.clone();
    while above.chain().certificates().len() < MAX_CHAIN_CERTIFICATES {
        let key = ALICE.device.key().clone();
        above = above.issue_account(key, "again", Validity::ten_years_from(NOW)).unwrap();
    }
    let one_more = above.issue_device_certificate(
        ALICE.device.key().public(),
        "too many",
        Validity::ten_years_from(NOW),
    );
    assert_eq!(one_more, Err(IssueError::ChainLength));
    let leaf = ALICE.device.chain().leaf();
    let many = leaf.to_pem().repeat(MAX_CHAIN_CERTIFICATES + 1);
    assert_eq!(Chain::unpack(many.as_bytes()), Err(ChainError::TooMany));
    assert_eq!(Chain::unpack(&leaf.der().repeat(MAX_CHAIN_CERTIFICATES + 1)), Err(ChainError::TooMany));
    assert_eq!(Chain::unpack(b""), Err(ChainError::Empty));
    assert_eq!(Chain::unpack(&vec![0; MAX_CHAIN_LEN + 1]), Err(ChainError::TooLong(MAX_CHAIN_LEN + 1)));
    let malformed = ChainError::Certificate { index: 0, error: CertificateError::Malformed };
    assert_eq!(Chain::unpack(b"garbage"), Err(malformed));
    let cut = &leaf.to_pem()[..400];
    assert_eq!(Chain::unpack(cut.as_bytes()), Err(ChainError::Pem));
    let trailing = [leaf.der(), &[0]].concat();
    assert_eq!(Certificate::from_der(&trailing), Err(CertificateError::Trailing));
}

#[test]
fn key_and_chain_belong_together() {
    let mismatch = Identity::new(ALICE.device.key().clone(), BOB.device.chain().clone()).unwrap_err();
    assert_eq!((mismatch.key, mismatch.chain), (ALICE.device.device_id(), BOB.device.device_id()));
}

#[test]
fn unknown_peers_are_refused() {
    let (alice, bob) = (ALICE.device.chain(), BOB.device.chain());
    let mut trust = TrustStore::new();
    assert_eq!(trust.check(alice), Err(Distrust::Unknown));
    trust.set(ALICE.account.short_id(), Trust::Allowed).unwrap();
    assert_eq!(trust.check(alice), Ok(()), "by the account");
    assert_eq!(trust.check(bob), Err(Distrust::Unknown));
    trust.set(bob.device_id(), Trust::Allowed).unwrap();
    assert_eq!(trust.check(bob), Ok(()), "by the device");
    trust.set(bob.device_id(), Trust::Undefined).unwrap();
    assert_eq!(trust.check(bob), Err(Distrust::Unknown));
    trust.set(BOB.authority.device_id(), Trust::Allowed).unwrap();
    assert_eq!(trust.check(bob), Ok(()), "by the root");
}

#[test]
fn a_ban_wins_over_everything() {
    let alice = ALICE.device.chain();
    let mut trust = TrustStore::dangerously_allowing_anyone();
    assert_eq!(trust.unknown_peers(), UnknownPeers::DangerouslyAllowed);
    assert_eq!(trust.check(alice), Ok(()));
    trust.set(alice.device_id(), Trust::Allowed).unwrap();
    trust.set(ALICE.authority.short_id(), Trust::Banned).unwrap();
    assert_eq!(trust.check(alice), Err(Distrust::Banned(ALICE.authority.device_id())));
    assert_eq!(trust.get(ALICE.authority.short_id()), Trust::Banned);
    trust.set_unknown_peers(UnknownPeers::Refused);
    assert_eq!(trust.check(BOB.device.chain()), Err(Distrust::Unknown));
}

#[test]
fn an_account_in_the_chain_that_did_not_sign_counts_for_nothing() {
    let forged = Chain::new([
        BOB.device.chain().leaf().clone(),
        ALICE.account.chain().leaf().clone(),
        ALICE.authority.chain().leaf().clone(),
    ])
    .unwrap();
    let mut trust = TrustStore::new();
    trust.set(ALICE.account.short_id(), Trust::Allowed).unwrap();
    // All roots and accounts have the names' user ids in them, so the names differ already.
    let broken = Distrust::Chain(ChainError::Link { index: 0, error: LinkError::Issuer });
    assert_eq!(trust.check(&forged), Err(broken));
}

#[test]
fn trust_as_text() {
    let mut trust = TrustStore::new();
    trust.set(ALICE.account.short_id(), Trust::Allowed).unwrap();
    trust.set(BOB.device.device_id(), Trust::Banned).unwrap();
    let text = trust.to_text();
    assert_eq!(text.lines().count(), 2);
    assert_eq!(TrustStore::from_text(&format!("# mine\n\n{text}")), Ok(trust.clone()));
    assert_eq!(TrustStore::from_text("allowed"), Err(TrustError::Line { line: 1 }));
    assert_eq!(TrustStore::from_text("\nliked 00"), Err(TrustError::Line { line: 2 }));
    assert!(matches!(TrustStore::from_text("banned 00"), Err(TrustError::Id { line: 1, .. })));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trust");
    assert_eq!(TrustStore::load(&path), Ok(TrustStore::new()));
    trust.save(&path).unwrap();
    assert_eq!(TrustStore::load(&path), Ok(trust));
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[test]
fn identities_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("a/b");
    assert_eq!(Identity::load(&home, None).unwrap_err(), IdentityFileError::Missing(KEY_FILE));
    for password in [None, Some("secret")] {
        ALICE.device.save(&home, password).unwrap();
        let loaded = Identity::load(&home, password).unwrap();
        assert_eq!(loaded.chain(), ALICE.device.chain());
        assert_eq!(loaded.key().sign(b"x"), ALICE.device.key().sign(b"x"));
    }
    assert_eq!(
        Identity::load(&home, None).unwrap_err(),
        IdentityFileError::Key(PrivateKeyError::PasswordNeeded)
    );
    #[cfg(unix)]
    {
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join(KEY_FILE)), 0o600);
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "no temporary file stays behind");
    fs::write(home.join(CHAIN_FILE), BOB.device.chain().pack()).unwrap();
    assert!(matches!(Identity::load(&home, Some("secret")), Err(IdentityFileError::Mismatch(_))));
    fs::write(home.join(KEY_FILE), [0xff; 10]).unwrap();
    assert!(matches!(Identity::load(&home, None), Err(IdentityFileError::File(_))));
    fs::write(home.join(KEY_FILE), "hello").unwrap();
    assert_eq!(Identity::load(&home, None).unwrap_err(), IdentityFileError::Key(PrivateKeyError::Pem));
}

#[test]
fn certificates_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let chain = ALICE.device.chain();
    let mut store = CertificateStore::open(directory.path(), StoreLimits::default()).unwrap();
    store.insert(chain).unwrap();
    store.insert(BOB.device.chain()).unwrap();
    for store in [&store, &CertificateStore::open(directory.path(), StoreLimits::default()).unwrap()] {
        assert_eq!(store.find(chain.device_id()).unwrap().as_ref(), Some(chain));
        assert_eq!(store.find(chain.short_id()).unwrap().as_ref(), Some(chain));
        assert_eq!(store.find(ALICE.account.short_id()), Ok(None));
        assert_eq!(store.ids().count(), 2);
        assert_eq!(store.skipped(), []);
    }
    assert_eq!(store.remove(chain.device_id()), Ok(true));
    assert_eq!(store.remove(chain.device_id()), Ok(false));
    assert_eq!(store.find(chain.short_id()), Ok(None));
}

#[test]
fn split_chains_come_together_again() {
    let directory = tempfile::tempdir().unwrap();
    let chain = ALICE.device.chain();
    let mut store = CertificateStore::open(directory.path(), StoreLimits::default()).unwrap();
    for certificate in chain.certificates() {
        store.insert(&Chain::new([certificate.clone()]).unwrap()).unwrap();
    }
    assert_eq!(store.find(chain.device_id()).unwrap().as_ref(), Some(chain));
    store.remove(ALICE.account.device_id()).unwrap();
    let alone = store.find(chain.device_id()).unwrap().unwrap();
    assert_eq!(alone.certificates().len(), 1);
}

#[test]
fn bad_files_are_named_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (alice, bob) = (ALICE.device.chain(), BOB.device.chain());
    let garbage = DeviceId([0; 32]).to_string();
    fs::write(path.join(&garbage), "garbage").unwrap();
    let wrong = DeviceId([0xff; 32]).to_string();
    fs::write(path.join(&wrong), alice.pack()).unwrap();
    fs::write(path.join(bob.short_id().to_string()), bob.pack()).unwrap();
    fs::write(path.join("x.0011223344556677.tmp"), "half").unwrap();
    let store = CertificateStore::open(path, StoreLimits::default()).unwrap();
    let skipped: Vec<_> = store.skipped().iter().map(|s| (s.name.to_str().unwrap(), s.reason)).collect();
    let unreadable = ChainError::Certificate { index: 0, error: CertificateError::Malformed };
    assert_eq!(
        skipped,
        [
            (&*garbage, StoreError::Chain(unreadable)),
            (&*wrong, StoreError::Misnamed { found: alice.device_id() })
        ]
    );
    assert_eq!(store.find(bob.device_id()).unwrap().as_ref(), Some(bob), "named by the short id");
    assert!(path.join(&garbage).exists(), "nothing is deleted");
}

#[test]
fn a_store_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let limits = StoreLimits { certificates: 1 };
    let mut store = CertificateStore::open(directory.path(), limits).unwrap();
    store.insert(ALICE.device.chain()).unwrap();
    store.insert(ALICE.device.chain()).unwrap();
    assert_eq!(store.insert(BOB.device.chain()), Err(StoreError::Full(1)));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = Chain::unpack(&bytes);
        let _ = PublicKey::from_spki_der(&bytes);
        let _ = PrivateKey::from_pkcs8_der(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = PrivateKey::from_pkcs8_pem(&text, Some("x"));
        let _ = TrustStore::from_text(&text);
        let _ = text.parse::<DeviceId>();
    }

    #[test]
    fn damaged_certificates_never_panic(index in 0_usize..2000, bit in 0_u32..8, cut in 0_usize..2000) {
        let mut der = ALICE.device.chain().leaf().der().to_vec();
        let index = index % der.len();
        der[index] ^= 1 << bit;
        der.truncate(der.len() - cut % der.len());
        if let Ok(certificate) = Certificate::from_der(&der) {
            let whole = ALICE.account.chain().leaf();
            let counts = certificate.verify_issued_by(whole);
            proptest::prop_assert!(counts.is_err() || certificate == *ALICE.device.chain().leaf());
        }
    }
}
