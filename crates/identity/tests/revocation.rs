//! Taking certificates back: lists of a daemon, lists of ours, and what they do to chains.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::slice;
use std::sync::LazyLock;

use towline_identity::{
    Chain, GenerateOptions, Hierarchy, Identity, KeySize, LinkError, MAX_REVOCATION_LIST_LEN,
    RevocationError, RevocationList, RevocationListError, Revocations, RevokeError, Revoked, Validity,
};

const NOW: i64 = 1_800_000_000;

/// Making keys is slow: all tests share these.
static ALICE: LazyLock<Hierarchy> = LazyLock::new(make);
static BOB: LazyLock<Hierarchy> = LazyLock::new(make);

fn make() -> Hierarchy {
    Hierarchy::generate(&GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(NOW) }).unwrap()
}

/// A further device of Alice. Certificates differ by serial number, so one key serves for all.
fn another_device() -> Chain {
    ALICE
        .account
        .issue_device_certificate(BOB.device.key().public(), "further", Validity::ten_years_from(NOW))
        .unwrap()
}

/// What a daemon of 2023 made when it revoked three devices one after the other, and the chains of those.
struct Jami {
    lists: Vec<RevocationList>,
    devices: Vec<Chain>,
    kept: Chain,
}

fn jami() -> Jami {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/revocation.json")).unwrap();
    let texts = |name: &str| -> Vec<String> {
        vectors[name].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let chain = |pem: &str| Chain::unpack(pem.as_bytes()).unwrap();
    Jami {
        lists: texts("lists").iter().map(|pem| RevocationList::from_pem(pem).unwrap()).collect(),
        devices: texts("devices").iter().map(|pem| chain(pem)).collect(),
        kept: chain(vectors["kept"].as_str().unwrap()),
    }
}

#[test]
fn lists_of_jami_are_read() {
    let Jami { lists, devices, kept } = jami();
    let account = kept.account().unwrap();
    for (index, list) in lists.iter().enumerate() {
        assert_eq!(list.verify_issued_by(account), Ok(()));
        assert_eq!(list.serials().len(), index + 1);
        for (other, device) in devices.iter().enumerate() {
            assert_eq!(list.revokes(device.leaf()), other <= index);
        }
        assert!(!list.revokes(kept.leaf()) && !list.revokes(account));
        assert_eq!(list.next_update(), Some(account.validity().not_after));
        assert_eq!(list.issuer_der(), account.subject_der());
        assert_eq!(RevocationList::from_pem(&list.to_pem()).as_ref(), Ok(list));
    }
    // Two of the three serial numbers are negative, and so are the numbers of the lists, which grow all the same.
    assert_eq!(lists[2].serials().filter(|serial| serial[0] >= 0x80).count(), 2);
    let numbers: Vec<_> = lists.iter().map(|list| hex::encode(list.number().unwrap())).collect();
    assert_eq!(numbers, ["b568d524d5601128", "b568d524d5601129", "b568d524d560112a"]);
    assert_eq!(lists[1].verify_issued_by(ALICE.account.chain().leaf()), Err(LinkError::Issuer));
    assert_eq!(lists[1].verify_issued_by(kept.leaf()), Err(LinkError::Issuer));
}

#[test]
fn a_revoked_device_is_found() {
    let Jami { lists, devices, kept } = jami();
    let account = kept.account().unwrap();
    let mut known = Revocations::new();
    for (index, list) in lists.iter().enumerate() {
        assert_eq!(known.insert(list.clone(), account), Ok(true));
        assert_eq!(known.insert(list.clone(), account), Ok(false));
        for (other, device) in devices.iter().enumerate() {
            let revoked = Revoked { certificate: device.device_id(), issuer: account.device_id() };
            assert_eq!(known.check(device), if other <= index { Err(revoked) } else { Ok(()) });
        }
        assert_eq!(known.check(&kept), Ok(()));
        assert_eq!(known.check(ALICE.device.chain()), Ok(()));
        // Each says all that the one before said, which is not kept.
        assert_eq!(known.lists().collect::<Vec<_>>(), [list]);
    }
    // An old list that comes late changes nothing.
    assert_eq!(known.insert(lists[0].clone(), account), Ok(false));
    assert_eq!(known.lists_of(account), [lists[2].clone()]);
    assert_eq!(known.lists_of(kept.leaf()), []);
}

#[test]
fn a_list_grows() {
    let account = ALICE.account.chain().leaf();
    let second = another_device();
    let first = ALICE.account.revoke(None, &[ALICE.device.chain().leaf().clone()], NOW).unwrap();
    assert_eq!(first.verify_issued_by(account), Ok(()));
    assert_eq!((first.this_update(), first.next_update()), (NOW, Some(account.validity().not_after)));
    assert!(first.revokes(ALICE.device.chain().leaf()) && !first.revokes(second.leaf()));
    assert_eq!(first.number().unwrap().len(), 8);

    // Revoked twice, listed once.
    let both = [ALICE.device.chain().leaf().clone(), second.leaf().clone(), second.leaf().clone()];
    let next = ALICE.account.revoke(Some(&first), &both, NOW + 1).unwrap();
    assert_eq!(next.serials().len(), 2);
    assert!(next.revokes(ALICE.device.chain().leaf()) && next.revokes(second.leaf()));
    let number = |list: &RevocationList| u64::from_be_bytes(list.number().unwrap().try_into().unwrap());
    assert_eq!(number(&next), number(&first) + 1);

    // Lists that were made at two places are brought together.
    let third = another_device();
    let elsewhere = ALICE.account.revoke(None, &[third.leaf().clone()], NOW).unwrap();
    let united = ALICE.account.revoke([&first, &elsewhere, &next], &[], NOW + 2).unwrap();
    assert_eq!(united.serials().len(), 3);
    assert_eq!(number(&united), number(&next).max(number(&elsewhere)) + 1);
    let mut known = Revocations::new();
    assert_eq!(known.insert(first, account), Ok(true));
    assert_eq!(known.insert(elsewhere, account), Ok(true));
    assert_eq!(known.lists().count(), 2);
    assert!(known.check(&third).is_err() && known.check(&second).is_ok());
    assert_eq!(known.insert(united.clone(), account), Ok(true));
    assert_eq!(known.lists().collect::<Vec<_>>(), [&united]);
    assert!(known.check(&third).is_err() && known.check(&second).is_err());
}

#[test]
fn nobody_takes_back_what_another_gave() {
    let bobs = BOB.device.chain().leaf();
    assert_eq!(
        ALICE.account.revoke(None, slice::from_ref(bobs), NOW),
        Err(RevokeError::Certificate { device: bobs.device_id(), error: LinkError::Issuer })
    );
    let list = BOB.account.revoke(None, slice::from_ref(bobs), NOW).unwrap();
    assert_eq!(ALICE.account.revoke(Some(&list), &[], NOW), Err(RevokeError::Earlier(LinkError::Issuer)));
    assert_eq!(ALICE.device.revoke(None, &[], NOW), Err(RevokeError::NotAuthority));
    assert_eq!(ALICE.account.revoke(None, &[], i64::MAX), Err(RevokeError::Time));
    let mut known = Revocations::new();
    let wrong = known.insert(list.clone(), ALICE.account.chain().leaf());
    assert_eq!(wrong, Err(RevocationError::Link(LinkError::Issuer)));

    // In Bob's name, by Alice.
    let forged = forge(&ALICE.account, &list);
    assert_eq!(forged.issuer_der(), BOB.account.chain().leaf().subject_der());
    let wrong = known.insert(forged, BOB.account.chain().leaf());
    assert_eq!(wrong, Err(RevocationError::Link(LinkError::Signature)));
    assert_eq!(known, Revocations::new());
    assert_eq!(known.insert(list, BOB.account.chain().leaf()), Ok(true));
}

/// The list of another with a signature by `signer`.
fn forge(signer: &Identity, list: &RevocationList) -> RevocationList {
    let mut der = list.der().to_vec();
    let signature = signer.key().sign(list.signed_part());
    let at = der.len() - signature.len();
    der[at..].copy_from_slice(&signature);
    RevocationList::from_der(&der).unwrap()
}

#[test]
fn an_authority_takes_an_account_back() {
    let mut known = Revocations::new();
    let list = ALICE.authority.revoke(None, &[ALICE.account.chain().leaf().clone()], NOW).unwrap();
    assert_eq!(known.insert(list, ALICE.authority.chain().leaf()), Ok(true));
    let revoked = Revoked { certificate: ALICE.account.device_id(), issuer: ALICE.authority.device_id() };
    assert_eq!(known.check(ALICE.device.chain()), Err(revoked), "with all its devices");
    assert_eq!(known.check(ALICE.account.chain()), Err(revoked));
    assert_eq!(known.check(ALICE.authority.chain()), Ok(()));
    let itself = ALICE.authority.revoke(None, &[ALICE.authority.chain().leaf().clone()], NOW).unwrap();
    assert_eq!(known.insert(itself, ALICE.authority.chain().leaf()), Ok(true));
    assert!(known.check(ALICE.authority.chain()).is_err());
}

#[test]
fn an_empty_list_says_nothing() {
    let list = ALICE.account.revoke(None, &[], NOW).unwrap();
    assert_eq!(list.serials().len(), 0);
    assert_eq!(list.verify_issued_by(ALICE.account.chain().leaf()), Ok(()));
    let mut known = Revocations::new();
    assert_eq!(known.insert(list, ALICE.account.chain().leaf()), Ok(false));
    assert_eq!(known.lists().count(), 0);
}

#[test]
fn other_bytes_are_refused_by_name() {
    let list = ALICE.account.revoke(None, &[ALICE.device.chain().leaf().clone()], NOW).unwrap();
    let der = list.der();
    assert_eq!(RevocationList::from_der(b""), Err(RevocationListError::Malformed));
    assert_eq!(
        RevocationList::from_der(ALICE.device.chain().leaf().der()),
        Err(RevocationListError::Malformed)
    );
    assert_eq!(RevocationList::from_der(&[der, b"x"].concat()), Err(RevocationListError::Trailing));
    let long = vec![0x30; MAX_REVOCATION_LIST_LEN + 1];
    assert_eq!(RevocationList::from_der(&long), Err(RevocationListError::TooLong(long.len())));
    assert_eq!(RevocationList::from_pem(""), Err(RevocationListError::Pem));
    assert_eq!(RevocationList::from_pem(&ALICE.device.chain().pack()), Err(RevocationListError::Pem));
    let long = " ".repeat(2 * MAX_REVOCATION_LIST_LEN);
    assert_eq!(RevocationList::from_pem(&long), Err(RevocationListError::TooLong(long.len())));
    // The number of the list, made into something else than an integer.
    let at = der.windows(3).position(|window| window == [0x55, 0x1d, 0x14]).unwrap() + 5;
    let mut odd = der.to_vec();
    assert_eq!(odd[at], 0x02);
    odd[at] = 0x04;
    assert_eq!(RevocationList::from_der(&odd), Err(RevocationListError::Number));
    // A list with an entry that cannot be read is none, rather than one without that entry.
    let serial = ALICE.device.chain().leaf().serial();
    let time = der.windows(serial.len()).position(|window| window == serial).unwrap() + serial.len();
    let mut odd = der.to_vec();
    assert_eq!(odd[time], 0x17);
    odd[time] = 0x0c;
    assert_eq!(RevocationList::from_der(&odd), Err(RevocationListError::Malformed));
}

#[test]
fn damage_is_found() {
    let Jami { lists, kept, .. } = jami();
    let (list, account) = (&lists[1], kept.account().unwrap());
    for end in 0..list.der().len() {
        assert!(RevocationList::from_der(&list.der()[..end]).is_err());
    }
    for at in 0..list.der().len() {
        for flip in [1, 0x80, 0xff] {
            let mut der = list.der().to_vec();
            der[at] ^= flip;
            if let Ok(changed) = RevocationList::from_der(&der)
                && changed.verify_issued_by(account).is_ok()
            {
                assert_eq!(changed.signed_part(), list.signed_part(), "byte {at}");
            }
        }
    }
}

#[test]
fn the_signature_algorithm_is_the_same_within_and_without() {
    const SHA512_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
    let list = ALICE.account.revoke(None, &[], NOW).unwrap();
    let places: Vec<_> =
        (0..list.der().len()).filter(|start| list.der()[*start..].starts_with(SHA512_WITH_RSA)).collect();
    assert_eq!(places.len(), 2);
    for place in places {
        let mut der = list.der().to_vec();
        // SHA-256 with RSA.
        der[place + SHA512_WITH_RSA.len() - 1] = 0x0b;
        assert_eq!(RevocationList::from_der(&der), Err(RevocationListError::Algorithms));
    }
}
