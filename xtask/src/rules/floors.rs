//! Who may know whom: a crate depends only on floors below its own.

use super::Violation;
use crate::tree::Tree;

/// A floor of the house, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Ground,
    Protocol,
    System,
    Apps,
    Library,
    Program,
    /// Stands beside the house: nothing inside depends on it, save where `MAY_ALSO` says so.
    Beside,
}

/// Where every package of the workspace lives.
const MAP: &[(&str, Floor)] = &[
    ("towline-identity", Floor::Ground),
    ("towline-dht", Floor::Protocol),
    ("towline-ice", Floor::Protocol),
    ("towline-mux", Floor::Protocol),
    ("towline-nat", Floor::Protocol),
    ("towline-sip", Floor::Protocol),
    ("towline-tls", Floor::Protocol),
    ("towline-turn", Floor::Protocol),
    ("towline-channeler", Floor::Protocol),
    ("towline-net", Floor::System),
    ("towline-account", Floor::Apps),
    ("towline-files", Floor::Apps),
    ("towline-calls", Floor::Apps),
    ("towline-channeler-tokio", Floor::Apps),
    ("towline-portmap", Floor::Apps),
