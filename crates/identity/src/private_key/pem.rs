//! PEM files of private keys, with and without a password (`spec/dht.md` 5).
//!
//! PBES2 with PBKDF2 and AES-CBC is all that OpenDHT, GnuTLS and OpenSSL write for this; it is done
//! with the one cryptographic library that the rest uses, which is also an order of magnitude faster.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{pbkdf2, rand};
use pkcs8::der::pem::{decode_vec, encode_string};
use pkcs8::der::{Decode, Encode};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding};
use zeroize::Zeroizing;

use super::PrivateKey;

const PLAIN_LABEL: &str = "PRIVATE KEY";
const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// PBKDF2 rounds of keys that we write: GnuTLS's number, and OWASP's advice for HMAC-SHA256.
const ROUNDS: u32 = 600_000;

/// PBKDF2 rounds that we are ready to compute for a file: some seconds.
const MAX_ROUNDS: u32 = 10_000_000;

/// Longest PEM text of a private key, in bytes. One of 8,192 bits has about 6,400.
const MAX_PEM_LEN: usize = 16 * 1024;

const SALT_LEN: usize = 16;
const IV_LEN: usize = 16;

/// Why a private key cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Longer than any key in use.
    #[error("a key file of {0} bytes is longer than the {MAX_PEM_LEN} allowed")]
    TooLong(usize),
    /// Not PEM, or damaged.
    #[error("not a PEM file")]
    Pem,
    /// The PEM block is something else than a PKCS#8 private key.
    #[error("the file holds something else than a PKCS#8 private key")]
    Label,
    /// Not an RSA key of 2,048 to 8,192 bits in PKCS#8.
    #[error("not an RSA key of 2048 to 8192 bits")]
    NotRsa,
    /// The key is encrypted, and no password was given.
    #[error("the key is encrypted and needs a password")]
    PasswordNeeded,
    /// The wrong password, or a damaged file: the two look the same.
    #[error("wrong password, or a damaged file")]
    Password,
    /// Encrypted in another way than PBES2 with PBKDF2 and AES-CBC.
    #[error("encrypted in another way than PBES2 with PBKDF2 and AES-CBC")]
    Scheme,
    /// The file demands more PBKDF2 rounds than we compute for anybody.
    #[error("the file demands {0} rounds of PBKDF2, more than the {MAX_ROUNDS} allowed")]
    Rounds(u32),
}

impl PrivateKey {
    /// Reads PKCS#8 PEM, `PRIVATE KEY` or `ENCRYPTED PRIVATE KEY`. A password is ignored if the key is
    /// not encrypted. Text around the first block is skipped.
    pub fn from_pkcs8_pem(pem: &str, password: Option<&str>) -> Result<Self, PrivateKeyError> {
        if pem.len() > MAX_PEM_LEN {
            return Err(PrivateKeyError::TooLong(pem.len()));
        }
        let block = first_block(pem).ok_or(PrivateKeyError::Pem)?;
        let (label, der) = decode_vec(block.as_bytes()).map_err(|_| PrivateKeyError::Pem)?;
        let der = Zeroizing::new(der);
        match label {
            PLAIN_LABEL => Self::from_pkcs8_der(&der),
            ENCRYPTED_LABEL => {
                let password = password.ok_or(PrivateKeyError::PasswordNeeded)?;
                Self::from_pkcs8_der(&decrypt(&der, password)?).map_err(|_| PrivateKeyError::Password)
            }
            _ => Err(PrivateKeyError::Label),
        }
    }

    /// Writes PKCS#8 PEM. With a password: PBES2, PBKDF2-HMAC-SHA256 (600,000 rounds, about 0.2 s),
    /// AES-256-CBC.
    pub fn to_pkcs8_pem(&self, password: Option<&str>) -> Zeroizing<String> {
        let der = self.to_pkcs8_der();
        let text = match password {
            None => encode_string(PLAIN_LABEL, LineEnding::LF, &der),
            Some(password) => encode_string(ENCRYPTED_LABEL, LineEnding::LF, &encrypt(&der, password)),
        };
        Zeroizing::new(text.expect("a key is far below the limits of PEM"))
    }
}

/// The first PEM block, from its BEGIN to the end of its END line.
fn first_block(text: &str) -> Option<&str> {
    const END: &str = "-----END ";
    const DASHES: &str = "-----";
    let block = &text[text.find("-----BEGIN ")?..];
    let end = block.find(END)? + END.len();
    let len = end + block[end..].find(DASHES)? + DASHES.len();
    Some(&block[..len])
}

fn decrypt(der: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| PrivateKeyError::Scheme)?;
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(PrivateKeyError::Scheme);
    };
    let Kdf::Pbkdf2(kdf) = &parameters.kdf else { return Err(PrivateKeyError::Scheme) };
    let (algorithm, iv) = match parameters.encryption {
        Cipher::Aes128Cbc { iv } => (&AES_128, iv),
        Cipher::Aes192Cbc { iv } => (&AES_192, iv),
        Cipher::Aes256Cbc { iv } => (&AES_256, iv),
        _ => return Err(PrivateKeyError::Scheme),
    };
    let key = derive(kdf, algorithm, password)?;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(|_| PrivateKeyError::Scheme)?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| PrivateKeyError::Scheme)?;
    let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let len = cipher.decrypt(&mut buffer, context).map_err(|_| PrivateKeyError::Password)?.len();
    buffer.truncate(len);
    Ok(buffer)
}

fn encrypt(der: &[u8], password: &str) -> Vec<u8> {
    let mut salt = [0; SALT_LEN];
    let mut iv = [0; IV_LEN];
    for bytes in [&mut salt, &mut iv] {
        rand::fill(bytes).expect("the operating system has randomness");
    }
    let kdf = Pbkdf2Params::hmac_sha256(ROUNDS, &salt).expect("a salt of 16 bytes is allowed");
    let key = derive(&kdf, &AES_256, password).expect("our own parameters");
    let key = UnboundCipherKey::new(&AES_256, &key).expect("a key of 32 bytes");
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(key).expect("AES does CBC");
    let mut data = der.to_vec();
    cipher
        .less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("padding makes every length fit");
    let parameters = Parameters { kdf: Kdf::Pbkdf2(kdf), encryption: Cipher::Aes256Cbc { iv } };
    let encrypted_data = (&data[..]).try_into().expect("an encrypted key is far below the limits of DER");
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data,
    };
    info.to_der().expect("an encrypted key is far below the limits of DER")
}

fn derive(
    kdf: &Pbkdf2Params,
    cipher: &Algorithm,
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    let hmac = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(PrivateKeyError::Scheme),
    };
    let len = if *cipher == AES_128 {
        16
    } else if *cipher == AES_192 {
        24
    } else {
        32
    };
    if kdf.key_length.is_some_and(|given| usize::from(given) != len) {
        return Err(PrivateKeyError::Scheme);
    }
    if kdf.iteration_count > MAX_ROUNDS {
        return Err(PrivateKeyError::Rounds(kdf.iteration_count));
    }
    let rounds = NonZeroU32::new(kdf.iteration_count).ok_or(PrivateKeyError::Scheme)?;
    let mut key = Zeroizing::new(vec![0; len]);
    pbkdf2::derive(hmac, rounds, kdf.salt.as_ref(), password.as_bytes(), &mut key);
    Ok(key)
}
