//! The Noise Protocol Framework (revision 34), as much of it as is used: `IKpsk2` and `XXpsk2` with X25519, SHA-256 and either cipher.
//!
//! Ours and not a crate's because a message that does not authenticate must leave no trace at all: a state is copied, and the copy kept only if
//! it understood the message. The tests hold it against another implementation.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    digest::{Context, SHA256},
    hkdf::{HKDF_SHA256, Salt},
};
use rand::{RngExt as _, rngs::StdRng};
use zeroize::Zeroizing;

use super::StaticKey;
use crate::{Side, Suite};

const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// Who knows whose key before the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The initiator knows the responder's.
    Ik,
    /// Nobody knows anything.
    Xx,
}

#[derive(Clone, Copy)]
enum Token {
    E,
    S,
    Ee,
    Es,
    Se,
    Ss,
    Psk,
}

impl Pattern {
    pub(super) fn messages(self) -> usize {
        self.tokens().len()
    }

    fn tokens(self) -> &'static [&'static [Token]] {
        use Token::{E, Ee, Es, Psk, S, Se, Ss};
        match self {
            Self::Ik => &[&[E, Es, S, Ss], &[E, Ee, Se, Psk]],
            Self::Xx => &[&[E], &[E, Ee, S, Es, Psk], &[S, Se]],
        }
    }

    fn name(self, suite: Suite) -> &'static [u8] {
        match (self, suite) {
            (Self::Ik, Suite::Aes256Gcm) => b"Noise_IKpsk2_25519_AESGCM_SHA256",
            (Self::Ik, Suite::ChaCha20Poly1305) => b"Noise_IKpsk2_25519_ChaChaPoly_SHA256",
            (Self::Xx, Suite::Aes256Gcm) => b"Noise_XXpsk2_25519_AESGCM_SHA256",
            (Self::Xx, Suite::ChaCha20Poly1305) => b"Noise_XXpsk2_25519_ChaChaPoly_SHA256",
        }
    }
}

/// A message did not parse or did not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unauthentic;

/// Noise's `HandshakeState`.
#[derive(Clone)]
pub(super) struct Noise {
    symmetric: Symmetric,
    pattern: Pattern,
    side: Side,
    own_static: StaticKey,
    own_ephemeral: Option<StaticKey>,
    peer_static: Option<[u8; KEY_LEN]>,
    peer_ephemeral: Option<[u8; KEY_LEN]>,
    psk: Option<Zeroizing<[u8; 32]>>,
    /// Messages written and read.
    done: usize,
}

impl Noise {
    /// `responder_key`, known to the initiator of an `IK` handshake, is the public key of the responder.
    pub(super) fn new(
        pattern: Pattern,
        suite: Suite,
        side: Side,
        key: StaticKey,
        responder_key: Option<[u8; KEY_LEN]>,
        prologue: &[u8],
    ) -> Self {
        let mut symmetric = Symmetric::new(suite, pattern.name(suite));
        symmetric.mix_hash(prologue);
        let mut peer_static = None;
        if pattern == Pattern::Ik {
            match side {
                Side::Initiator => {
                    let known = responder_key.expect("IK is for those who know the responder's key");
                    symmetric.mix_hash(&known);
                    peer_static = Some(known);
                }
                Side::Responder => symmetric.mix_hash(&key.public()),
            }
        }
        Self {
            symmetric,
            pattern,
            side,
            own_static: key,
            own_ephemeral: None,
            peer_static,
            peer_ephemeral: None,
            psk: None,
            done: 0,
        }
    }

    /// Sets the secret for the second message. Must be called before that is written or read.
    pub(super) fn set_psk(&mut self, psk: Zeroizing<[u8; 32]>) {
        self.psk = Some(psk);
    }

    /// Appends the next message. Fails only if the peer's key is one that shares nothing with anybody.
    pub(super) fn write(
        &mut self,
        payload: &[u8],
        rng: &mut StdRng,
        out: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        for token in self.next_tokens()? {
            match token {
                Token::E => {
                    let ephemeral = StaticKey::from_bytes(rng.random());
                    out.extend_from_slice(&ephemeral.public());
                    self.symmetric.mix_ephemeral(&ephemeral.public());
                    self.own_ephemeral = Some(ephemeral);
                }
                Token::S => {
                    let public = self.own_static.public();
                    self.symmetric.encrypt_and_hash(&public, out);
                }
                token => self.mix(*token)?,
            }
        }
        self.symmetric.encrypt_and_hash(payload, out);
        self.done += 1;
        Ok(())
    }

    /// Reads the next message and gives its payload. Nothing is changed if it does not authenticate.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        let mut next = self.clone();
        let payload = next.read_on(message)?;
        *self = next;
        Ok(payload)
    }

    fn read_on(&mut self, mut message: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        for token in self.next_tokens()? {
            match token {
                Token::E => {
                    let (ephemeral, rest) = message.split_first_chunk().ok_or(Unauthentic)?;
                    message = rest;
                    self.symmetric.mix_ephemeral(ephemeral);
                    self.peer_ephemeral = Some(*ephemeral);
                }
                Token::S => {
                    let (sealed, rest) = message.split_at_checked(KEY_LEN + TAG_LEN).ok_or(Unauthentic)?;
                    message = rest;
                    let key = self.symmetric.decrypt_and_hash(sealed)?;
                    self.peer_static = Some(key.try_into().map_err(|_| Unauthentic)?);
                }
                token => self.mix(*token)?,
            }
        }
        let payload = self.symmetric.decrypt_and_hash(message)?;
        self.done += 1;
        Ok(payload)
    }

    fn next_tokens(&self) -> Result<&'static [Token], Unauthentic> {
        self.pattern.tokens().get(self.done).copied().ok_or(Unauthentic)
    }

    fn mix(&mut self, token: Token) -> Result<(), Unauthentic> {
        let initiator = self.side == Side::Initiator;
        let own_ephemeral = match token {
            Token::E | Token::S | Token::Ss => false,
            Token::Ee => true,
            Token::Es => initiator,
            Token::Se => !initiator,
            Token::Psk => {
                let psk = self.psk.as_ref().ok_or(Unauthentic)?;
                self.symmetric.mix_key_and_hash(&**psk);
                return Ok(());
            }
        };
        let peer_ephemeral = match token {
            Token::Es => !initiator,
            Token::Se => initiator,
            Token::Ee => true,
            Token::E | Token::S | Token::Ss | Token::Psk => false,
        };
        let own = if own_ephemeral { self.own_ephemeral.as_ref() } else { Some(&self.own_static) };
        let peer = if peer_ephemeral { self.peer_ephemeral } else { self.peer_static };
        let secret = own.zip(peer).and_then(|(own, peer)| own.agree(&peer)).ok_or(Unauthentic)?;
        self.symmetric.mix_key(&*secret);
        Ok(())
    }

    /// The cipher.
    pub(super) fn suite(&self) -> Suite {
        self.symmetric.suite
    }

    /// The peer's static key, once it was said.
    pub(super) fn peer_static(&self) -> Option<[u8; KEY_LEN]> {
        self.peer_static
    }

    /// The secrets of the initiator's and the responder's direction, and the handshake hash. `None` before the last message.
    pub(super) fn split(&self) -> Option<Split> {
        (self.done == self.pattern.messages()).then(|| {
            let [initiator, responder] = self.symmetric.derive(&[]);
            Split { initiator, responder, hash: self.symmetric.hash }
        })
    }
}

/// What Noise's `Split()` gives, and the handshake hash.
pub(super) struct Split {
    pub(super) initiator: Zeroizing<[u8; 32]>,
    pub(super) responder: Zeroizing<[u8; 32]>,
    pub(super) hash: [u8; 32],
}

/// Noise's `SymmetricState` and `CipherState`.
#[derive(Clone)]
struct Symmetric {
    suite: Suite,
    chaining_key: Zeroizing<[u8; 32]>,
    hash: [u8; 32],
    key: Zeroizing<[u8; 32]>,
    nonce: u64,
}

impl Symmetric {
    fn new(suite: Suite, name: &[u8]) -> Self {
        let mut hash = [0; 32];
        if name.len() <= 32 {
            hash[..name.len()].copy_from_slice(name);
        } else {
            hash = sha256(&[name]);
        }
        // Both patterns mix in an ephemeral key before anything is encrypted.
        Self { suite, chaining_key: Zeroizing::new(hash), hash, key: Zeroizing::new([0; 32]), nonce: 0 }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    /// HKDF as Noise has it: its outputs are the blocks of RFC 5869's with an empty `info`.
    fn derive<const N: usize>(&self, material: &[u8]) -> [Zeroizing<[u8; 32]>; N] {
        let secret = Salt::new(HKDF_SHA256, &*self.chaining_key).extract(material);
        let mut blocks = Zeroizing::new([0; 96]);
        crate::crypto::expand(&secret, &[], &mut blocks[..32 * N]);
        std::array::from_fn(|index| {
            let mut block = Zeroizing::new([0; 32]);
            block.copy_from_slice(&blocks[32 * index..32 * (index + 1)]);
            block
        })
    }

    fn mix_key(&mut self, material: &[u8]) {
        let [chaining_key, key] = self.derive(material);
        (self.chaining_key, self.key, self.nonce) = (chaining_key, key, 0);
    }

    fn mix_key_and_hash(&mut self, material: &[u8]) {
        let [chaining_key, hash, key] = self.derive(material);
        self.mix_hash(&*hash);
        (self.chaining_key, self.key, self.nonce) = (chaining_key, key, 0);
    }

    /// The token `e`, as it is in all patterns with a pre-shared key.
    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    fn encrypt_and_hash(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let (key, nonce) = self.cipher();
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(self.hash), &mut out[start..])
            .expect("messages are far shorter than the ciphers allow");
        out.extend_from_slice(tag.as_ref());
        self.mix_hash(&out[start..]);
    }

    fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        let (key, nonce) = self.cipher();
        let mut plain = sealed.to_vec();
        let length =
            key.open_in_place(nonce, Aad::from(self.hash), &mut plain).map_err(|_| Unauthentic)?.len();
        plain.truncate(length);
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// The cipher, and the next nonce.
    fn cipher(&mut self) -> (LessSafeKey, Nonce) {
        let (algorithm, counter) = match self.suite {
            Suite::Aes256Gcm => (&AES_256_GCM, self.nonce.to_be_bytes()),
            Suite::ChaCha20Poly1305 => (&CHACHA20_POLY1305, self.nonce.to_le_bytes()),
        };
        self.nonce += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter);
        let key = UnboundKey::new(algorithm, &*self.key).expect("both ciphers take any 32 bytes");
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce))
    }
}

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(part);
    }
    hash.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}
