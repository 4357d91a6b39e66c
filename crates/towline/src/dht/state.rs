//! The state file on disk (`dht.md` 2.13): read at the start, replaced in one step.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use towline_dht::persist::State;

use super::config::{StartError, StateFault};
use super::error::SaveError;
use super::sockets::Ports;
use crate::file::{beside, replace};

/// What an earlier run left.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) state: Option<State>,
    pub(super) ports: Ports,
}

/// Reads the state file and its companion with the ports. Files that do not exist are no fault.
pub(super) fn load(path: &Path, longest: u64) -> Result<Memory, StartError> {
    let unreadable =
        |error: io::Error| StartError::StateUnreadable { path: path.to_owned(), kind: error.kind() };
    let not_one = |why| StartError::NotAStateFile { path: path.to_owned(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > longest {
        return Err(not_one(StateFault::TooLong));
    }
    let state = State::decode(&bytes).map_err(|why| not_one(StateFault::Malformed(why)))?;
    Ok(Memory { state: Some(state), ports: load_ports(&ports_path(path)) })
}

/// Two lines, the IPv4 and the IPv6 port. They are a wish, so damage is ignored.
fn load_ports(path: &Path) -> Ports {
    const LONGEST: u64 = 64;
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    let mut lines = read.map_or("", |_| text.as_str()).lines();
    let mut port = || lines.next()?.trim().parse().ok().filter(|port| *port != 0);
    Ports { v4: port(), v6: port() }
}

/// Writes both files. Each is whole at every moment, even if the machine stops in between.
pub(super) fn save(path: &Path, state: &State, ports: Ports) -> Result<(), SaveError> {
    let failed = |error: io::Error| SaveError { path: path.to_owned(), kind: error.kind() };
    replace(path, &state.encode()).map_err(failed)?;
    let ports = format!("{}\n{}\n", ports.v4.unwrap_or(0), ports.v6.unwrap_or(0));
    replace(&ports_path(path), ports.as_bytes()).map_err(failed)
}

fn ports_path(path: &Path) -> PathBuf {
    beside(path, "_port.txt")
}

#[cfg(test)]
mod tests {
    use towline_dht::InfoHash;

    use super::*;

    #[test]
    fn files_are_written_whole_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        assert!(load(&path, 1 << 20).unwrap().state.is_none(), "a first run");
        let state = State { id: InfoHash([7; 20]), ..State::default() };
        let ports = Ports { v4: Some(4222), v6: None };
        for _ in 0..2 {
            save(&path, &state, ports).unwrap();
            let memory = load(&path, 1 << 20).unwrap();
            assert_eq!((memory.state.as_ref(), memory.ports), (Some(&state), ports));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left behind");

        assert!(matches!(load(&path, 10), Err(StartError::NotAStateFile { why: StateFault::TooLong, .. })));
        std::fs::write(ports_path(&path), "ninety\n-1\n").unwrap();
        assert_eq!(load(&path, 1 << 20).unwrap().ports, Ports::default());
        assert!(matches!(load(dir.path(), 10), Err(StartError::StateUnreadable { .. })));
        assert!(save(&dir.path().join("missing/node"), &state, ports).is_err());
    }
}
