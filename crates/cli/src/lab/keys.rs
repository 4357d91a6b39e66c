//! Keys of the lab's devices: the same in every run, as traces depend on who lies where in the DHT. They protect nothing.

use std::sync::OnceLock;

use num_bigint::BigUint;
use towline::identity::{Identity, PrivateKey, Validity};

use crate::failure::Failure;

/// Primes of 1,024 bits in hexadecimal, a line each. Any two make a key: 48 of them are enough for 1,128 keys.
const PRIMES: &str = include_str!("primes.txt");
const E: u32 = 65_537;
/// The wall clock of the lab begins in January 2027.
const VALID_FROM: i64 = 1_800_000_000;

/// The device with this number, up to 1,127. All belong to one account.
pub(super) fn device(number: usize) -> Result<Identity, Failure> {
    static ACCOUNT: OnceLock<Result<Identity, String>> = OnceLock::new();
    let made = ACCOUNT.get_or_init(|| {
        let validity = Validity::ten_years_from(VALID_FROM);
        Identity::self_signed(key(0)?, "account", validity).map_err(|error| error.to_string())
    });
    let account = made.as_ref().map_err(|error| Failure::Internal(error.clone()))?;
    let key = key(number + 1).map_err(Failure::Internal)?;
    let validity = Validity::ten_years_from(VALID_FROM);
    account.issue_device(key, "device", validity).map_err(|error| Failure::Internal(error.to_string()))
}

/// The key with this number: the product of the two primes that stand there in the list of all pairs.
fn key(number: usize) -> Result<PrivateKey, String> {
    let primes: Vec<&str> = PRIMES.lines().collect();
    let mut pairs = (1..primes.len()).flat_map(|large| (0..large).map(move |small| (large, small)));
    let (large, small) = pairs.nth(number).ok_or("the lab has no more keys")?;
    let prime = |line: usize| BigUint::parse_bytes(primes[line].as_bytes(), 16).ok_or("a damaged prime");
    let der = pkcs8(&prime(large)?, &prime(small)?).ok_or("two primes that make no key")?;
    PrivateKey::from_pkcs8_der(&der).map_err(|error| error.to_string())
}

/// The key of two primes, the larger first, as RFC 5208 and RFC 8017 appendix A.1.2 write it.
fn pkcs8(p: &BigUint, q: &BigUint) -> Option<Vec<u8>> {
    let (e, one) = (BigUint::from(E), BigUint::from(1u8));
    let (less_p, less_q) = (p - &one, q - &one);
    let d = e.modinv(&(&less_p * &less_q))?;
    let numbers =
        [&(p * q), &e, &d, p, q, &(&d % &less_p), &(&d % &less_q), &q.modinv(p)?].map(BigUint::to_bytes_be);
    let zero = tagged(0x02, &[0]);
    let mut key = zero.clone();
    for number in numbers {
        // Positive, whatever the first bit says.
        let sign: &[u8] = if number[0] < 0x80 { &[] } else { &[0] };
        key.extend(tagged(0x02, &[sign, &number].concat()));
    }
    // rsaEncryption, without parameters.
    let algorithm = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    Some(tagged(0x30, &[zero, tagged(0x30, &algorithm), tagged(0x04, &tagged(0x30, &key))].concat()))
}

/// A DER value of up to 65,535 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..0x80) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_work_and_are_the_same_again() {
        let ids: BTreeSet<_> = [0, 1, 2, 700, 1126]
            .map(|number| {
                let device = device(number).unwrap();
                let signature = device.key().sign(b"words");
                device.key().public().verify(b"words", &signature).unwrap();
                let cipher = device.key().public().encrypt(b"secret").unwrap();
                assert_eq!(device.key().decrypt(&cipher).unwrap(), b"secret");
                assert_eq!(device.device_id(), super::device(number).unwrap().device_id());
                device.device_id()
            })
            .into();
        assert_eq!(ids.len(), 5);
        assert!(device(1127).is_err());
    }
}
