//! The file `contacts.json`: what this device knows of other accounts.
//!
//! Several processes may use it at once, such as `towline online` and a `towline contact ban`. Each keeps its own view and
//! writes only what it changed, to the file as it is at that moment; a running one is told what others changed.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use towline::account::contacts::{Contact, ContactLimits, Contacts};
use towline::{AccountId, DeviceId};

use super::files::{self, Lock};
use super::merge;
use crate::failure::Failure;

/// Longest file that is read. As many contacts and requests as are kept take less, unless all requests come with large
/// pictures.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Something another process changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// An account became a contact, asked by that process if it has to be.
    Added(AccountId, Contact),
    Refused(AccountId),
    Removed(AccountId),
    Banned(AccountId),
    Unbanned(AccountId),
    BannedDevice {
        device: DeviceId,
        banned: bool,
    },
    Named(AccountId, Option<String>),
}

/// The file, as one process uses it.
#[derive(Debug)]
pub(crate) struct ContactsFile {
    path: PathBuf,
    lock: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What this process thinks, as it last read or saved it.
    ours: Value,
    /// The file, as this process last saw it.
    seen: Contacts,
    /// What others changed and nobody has asked for yet.
    foreign: Vec<Foreign>,
    stamp: Option<Stamp>,
}

/// Whether a file is another than before, without reading it.
type Stamp = (u64, Option<std::time::SystemTime>, u64);

impl ContactsFile {
    /// The file at `path`, changed under the lock at `lock`.
    pub(super) fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock, state: Mutex::default() }
    }

    /// Reads the file; nobody is known if there is none.
    pub(crate) fn load(&self) -> Result<Contacts, Failure> {
        let contacts = self.read().map_err(|error| self.failure(&error))?;
        let mut state = self.state();
        state.ours = to_value(&contacts);
        state.seen = contacts.clone();
        state.stamp = self.stamp();
        Ok(contacts)
    }

    /// Takes `contacts` for what this process thinks, without writing them: what they differ in from the file is not to be
    /// kept.
    pub(crate) fn assume(&self, contacts: &Contacts) {
        self.state().ours = to_value(contacts);
    }

    /// Writes what this process changed since it last read or saved.
    pub(crate) fn save(&self, contacts: &Contacts) -> io::Result<()> {
        let ours = to_value(contacts);
        let mut state = self.state();
        let lock = Lock::take(&self.lock)?;
        let current = self.read()?;
        let mut merged = to_value(&current);
        merge::apply(&state.ours, &ours, &mut merged);
        keep_bounds(&mut merged);
        let text = serde_json::to_string_pretty(&merged)?;
        // Two processes together may know more than is kept; the file stays as it is then.
        let merged = Contacts::from_json(&text).map_err(io::Error::other)?;
        if merged != current || !self.path.exists() {
            files::replace(&self.path, text.as_bytes(), &lock)?;
        }
        let news = changes(&state.seen, &current);
        state.foreign.extend(news);
        state.ours = ours;
        state.seen = merged;
        state.stamp = self.stamp();
        Ok(())
    }

    /// Changes the file by what `change` does to the contacts in it, with nobody between.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&mut Contacts) -> Result<T, Failure>,
    ) -> Result<(T, Contacts), Failure> {
        let lock = Lock::take(&self.lock).map_err(|error| self.failure(&error))?;
        let mut contacts = self.read().map_err(|error| self.failure(&error))?;
        let before = contacts.clone();
        let done = change(&mut contacts)?;
        if to_value(&contacts) != to_value(&before) {
            let written = files::replace(&self.path, contacts.to_json().as_bytes(), &lock);
            written.map_err(|error| self.failure(&error))?;
        }
        Ok((done, contacts))
    }

    /// What other processes changed since this was last asked.
    pub(crate) fn foreign_changes(&self) -> io::Result<Vec<Foreign>> {
        let mut state = self.state();
        let stamp = self.stamp();
        if stamp != state.stamp {
            // Nothing is written, and the file is replaced as a whole, so no lock is needed.
            let current = self.read()?;
            let news = changes(&state.seen, &current);
            state.foreign.extend(news);
            state.seen = current;
            state.stamp = stamp;
        }
        Ok(std::mem::take(&mut state.foreign))
    }

    /// The contacts, if another process changed them since they were last read here.
    pub(crate) fn newer(&self) -> io::Result<Option<Contacts>> {
        let mut state = self.state();
        let stamp = self.stamp();
        if stamp == state.stamp {
            return Ok(None);
        }
        let contacts = self.read()?;
        state.stamp = stamp;
        Ok(Some(contacts))
    }

    fn read(&self) -> io::Result<Contacts> {
        match files::read_text(&self.path, LONGEST)? {
            Some(text) => Contacts::from_json(&text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            None => Ok(Contacts::default()),
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let number = 0;
        Some((metadata.len(), metadata.modified().ok(), number))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::Local(format!("{}: {error}", self.path.display()))
    }
}

fn to_value(contacts: &Contacts) -> Value {
    serde_json::to_value(contacts).expect("texts, numbers and maps with text keys have a JSON form")
}

fn keep_bounds(all: &mut Value) {
    let limits = ContactLimits::default();
    let time = |entry: &Value| entry.as_i64().unwrap_or(0);
    for (name, limit) in [("refused", limits.refused), ("ownDevices", limits.own_devices)] {
        merge::keep_newest(&mut all[name], limit, time);
    }
    merge::keep_newest(&mut all["seen"], limits.seen, |entry| time(&entry[2]));
}

/// What became of `before`, in terms of what a user does.
fn changes(before: &Contacts, after: &Contacts) -> Vec<Foreign> {
    let mut all = Vec::new();
    let accounts: BTreeSet<AccountId> =
        before.iter().chain(after.iter()).map(|(account, _)| account).collect();
    for account in accounts {
        let (old, new) = (before.get(account), after.get(account));
        let banned = |contact: Option<&Contact>| contact.is_some_and(|contact| contact.banned);
        let active = |contact: Option<&Contact>| contact.is_some_and(Contact::is_active);
        match (banned(old), banned(new)) {
            (false, true) => all.push(Foreign::Banned(account)),
            (true, false) => all.push(Foreign::Unbanned(account)),
            _ => {}
        }
        match (active(old), active(new)) {
            (false, true) => all.extend(new.cloned().map(|contact| Foreign::Added(account, contact))),
            (true, false) if !banned(new) => all.push(Foreign::Removed(account)),
            _ => {}
        }
        let name = |contact: Option<&Contact>| contact.and_then(|contact| contact.name.clone());
        if name(old) != name(new) {
            all.push(Foreign::Named(account, name(new)));
        }
    }
    for (account, _) in before.requests().filter(|(account, _)| after.request(*account).is_none()) {
        if after.get(account).is_none_or(|contact| !contact.is_active() && !contact.banned) {
            all.push(Foreign::Refused(account));
        }
    }
    let banned = |contacts: &Contacts| contacts.banned_devices().collect::<BTreeSet<_>>();
    let (old, new) = (banned(before), banned(after));
    all.extend(
        old.symmetric_difference(&new)
            .map(|device| Foreign::BannedDevice { device: *device, banned: new.contains(device) }),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: AccountId = AccountId([9; 20]);

    fn id(byte: u8) -> AccountId {
        AccountId([byte; 20])
    }

    fn file(directory: &tempfile::TempDir) -> ContactsFile {
        ContactsFile::new(directory.path().join("contacts.json"), directory.path().join("lock"))
    }

    #[test]
    fn two_processes_do_not_undo_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (file(&directory), file(&directory));
        let (mut ours, mut theirs) = (one.load().unwrap(), two.load().unwrap());
        for byte in 1..4 {
            ours.add(10, OWN, id(byte), "").unwrap();
        }
        one.save(&ours).unwrap();
        theirs.ban(20, OWN, id(7)).unwrap();
        two.save(&theirs).unwrap();
        two.update(|contacts| Ok(contacts.ban(30, OWN, id(2)).unwrap())).unwrap();
        ours.remove(40, id(1)).unwrap();
        one.save(&ours).unwrap();

        let both = file(&directory).load().unwrap();
        assert_eq!(both.active().map(|(account, _)| account).collect::<Vec<_>>(), [id(3)]);
        assert!(both.get(id(7)).unwrap().banned && both.get(id(2)).unwrap().banned);
        assert_eq!(one.foreign_changes().unwrap(), [Foreign::Banned(id(2)), Foreign::Banned(id(7))]);
        assert_eq!(one.foreign_changes().unwrap(), []);
        // What came and went meanwhile does not show, and its own changes are no news to it.
        let added = Foreign::Added(id(3), both.get(id(3)).unwrap().clone());
        assert!(two.foreign_changes().unwrap().contains(&added));
    }

    #[test]
    fn what_is_assumed_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let one = file(&directory);
        let mut ours = one.load().unwrap();
        ours.ban(1, OWN, id(1)).unwrap();
        one.assume(&ours);
        ours.add(1, OWN, id(2), "").unwrap();
        one.save(&ours).unwrap();
        let kept = file(&directory).load().unwrap();
        assert_eq!(kept.iter().map(|(account, _)| account).collect::<Vec<_>>(), [id(2)]);
    }

    #[test]
    fn a_file_that_is_none_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let one = file(&directory);
        let mut ours = one.load().unwrap();
        let path = directory.path().join("contacts.json");
        std::fs::write(&path, "{\"contacts\": 5}").unwrap();
        ours.add(1, OWN, id(2), "").unwrap();
        assert_eq!(one.save(&ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(one.update(|_| Ok(())).is_err() && one.load().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"contacts\": 5}");
    }
}
