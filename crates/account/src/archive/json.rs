//! The JSON in an archive.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use towline_identity::{Chain, Identity, PrivateKey, PrivateKeyError, RevocationList};
use zeroize::Zeroizing;

use super::{Archive, ArchiveError, MAX_ARCHIVE_JSON_LEN};
use crate::contacts::{Contact, Contacts};

const ACCOUNT_KEY: &str = "ringAccountKey";
const ACCOUNT_CHAIN: &str = "ringAccountCert";
const AUTHORITY_KEY: &str = "ringCaKey";
const REVOCATIONS: &str = "ringAccountCRL";
const CONTACTS: &str = "ringAccountContacts";

/// The members for which [`Archive`] has fields.
pub(super) const FIELDS: &[&str] = &[ACCOUNT_KEY, ACCOUNT_CHAIN, AUTHORITY_KEY, REVOCATIONS, CONTACTS];

const PEM: &[u8] = b"-----BEGIN ";

type Members = BTreeMap<String, Box<RawValue>>;

impl Archive {
    pub(super) fn from_json(json: &[u8]) -> Result<Self, ArchiveError> {
        let mut members: Members = serde_json::from_slice(json).map_err(|_| ArchiveError::Json)?;
        let key = private_key(&mut members, ACCOUNT_KEY)?.ok_or(ArchiveError::Missing(ACCOUNT_KEY))?;
        let chain = blob(&mut members, ACCOUNT_CHAIN)?.ok_or(ArchiveError::Missing(ACCOUNT_CHAIN))?;
        let chain = Chain::unpack(&chain).map_err(ArchiveError::Chain)?;
        chain.verify_links().map_err(ArchiveError::Chain)?;
        let account = Identity::new(key, chain).map_err(ArchiveError::Mismatch)?;
        if !account.chain().leaf().is_ca() {
            return Err(ArchiveError::NotAuthority);
        }
        let authority_key = private_key(&mut members, AUTHORITY_KEY)?;
        if let (Some(key), Some(authority)) = (&authority_key, account.chain().account())
            && key.public() != authority.public_key()
        {
            return Err(ArchiveError::OtherAuthority);
        }
        let revocations = blob(&mut members, REVOCATIONS)?.map(|list| read_list(&list)).transpose()?;
        if let Some(list) = &revocations {
            list.verify_issued_by(account.chain().leaf()).map_err(|_| ArchiveError::OtherRevocations)?;
        }
        let contacts = read_contacts(&mut members)?;
        Ok(Self { account, authority_key, revocations, contacts, members })
    }

    pub(super) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        let mut members: BTreeMap<&str, Member<'_>> =
            self.members.iter().map(|(name, member)| (name.as_str(), Member::Other(member))).collect();
        members.insert(ACCOUNT_KEY, Member::key(self.account.key()));
        members.insert(ACCOUNT_CHAIN, Member::blob(self.account.chain().pack().as_bytes()));
        if let Some(key) = &self.authority_key {
            members.insert(AUTHORITY_KEY, Member::key(key));
        }
        if let Some(list) = &self.revocations {
            members.insert(REVOCATIONS, Member::blob(list.der()));
        }
        let contacts: BTreeMap<String, WrittenContact<'_>> =
            self.contacts.iter().map(|(id, contact)| (id.to_string(), contact.into())).collect();
        if !contacts.is_empty() {
            members.insert(CONTACTS, Member::Contacts(contacts));
        }
        let json = Zeroizing::new(serde_json::to_vec(&members).expect("texts and raw JSON have a JSON form"));
        if json.len() > MAX_ARCHIVE_JSON_LEN { Err(ArchiveError::TooMuch) } else { Ok(json) }
    }
}

/// A member that is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Blob(String),
    Contacts(BTreeMap<String, WrittenContact<'a>>),
    Other(&'a RawValue),
}

impl Member<'_> {
    fn blob(bytes: &[u8]) -> Self {
        Self::Blob(BASE64.encode(bytes))
    }

    fn key(key: &PrivateKey) -> Self {
        Self::blob(key.to_pkcs8_pem(None).as_bytes())
    }
}

/// A contact as Jami writes it, without what counts for one device only. The name is ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenContact<'a> {
    added: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<bool>,
    conversation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<i64>,
}

impl<'a> From<&'a Contact> for WrittenContact<'a> {
    fn from(contact: &'a Contact) -> Self {
        Self {
            added: contact.added,
            banned: contact.banned.then_some(true),
            confirmed: contact.confirmed.then_some(true),
            conversation_id: &contact.conversation_id,
            name: contact.name.as_deref(),
            removed: (contact.removed != 0).then_some(contact.removed),
        }
    }
}

/// Takes a member that is base64. An empty one is none.
fn blob(members: &mut Members, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, ArchiveError> {
    let Some(member) = members.remove(name) else { return Ok(None) };
    let text: Option<String> = serde_json::from_str(member.get()).map_err(|_| ArchiveError::Member(name))?;
    let text = Zeroizing::new(text.unwrap_or_default());
    let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| ArchiveError::Member(name))?;
    Ok(Some(Zeroizing::new(bytes)).filter(|bytes| !bytes.is_empty()))
}

/// Takes a member that is a private key, in PEM or in DER.
fn private_key(members: &mut Members, name: &'static str) -> Result<Option<PrivateKey>, ArchiveError> {
    let Some(bytes) = blob(members, name)? else { return Ok(None) };
    let key = if bytes.starts_with(PEM) {
        let pem = std::str::from_utf8(&bytes).map_err(|_| PrivateKeyError::Pem);
        pem.and_then(|pem| PrivateKey::from_pkcs8_pem(pem, None))
    } else {
        PrivateKey::from_pkcs8_der(&bytes)
    };
    key.map(Some).map_err(|error| ArchiveError::Key { member: name, error })
}

/// A revocation list, in DER or in PEM.
fn read_list(bytes: &[u8]) -> Result<RevocationList, ArchiveError> {
    match std::str::from_utf8(bytes) {
        Ok(pem) if bytes.starts_with(PEM) => RevocationList::from_pem(pem),
        _ => RevocationList::from_der(bytes),
    }
    .map_err(ArchiveError::Revocations)
}

fn read_contacts(members: &mut Members) -> Result<Contacts, ArchiveError> {
    let mut contacts = Contacts::default();
    let Some(member) = members.remove(CONTACTS) else { return Ok(contacts) };
    let read: Option<BTreeMap<String, Contact>> =
        serde_json::from_str(member.get()).map_err(|_| ArchiveError::Member(CONTACTS))?;
    for (id, contact) in read.unwrap_or_default() {
        let id = id.parse().map_err(|_| ArchiveError::Member(CONTACTS))?;
        if !contacts.restore(id, Contact { asked: 0, asked_at: 0, ..contact }) {
            return Err(ArchiveError::TooManyContacts);
        }
    }
    Ok(contacts)
}
