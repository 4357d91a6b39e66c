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
    ("towline-link", Floor::Protocol),
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
    ("towline-turn-tokio", Floor::Apps),
    ("towline", Floor::Library),
    ("towline-cli", Floor::Program),
    ("towline-lab", Floor::Beside),
    ("towline-emulator", Floor::Beside),
    ("towline-fuzz", Floor::Beside),
    ("towline-benches", Floor::Beside),
    ("interop", Floor::Beside),
    ("xtask", Floor::Beside),
];

/// What the packages beside the house may use of it in their production code; the others may use all.
const LAB_USES: &[&str] = &["towline-net", "towline-link", "towline-nat"];

/// Dependencies that go another way, with the reason.
const MAY_ALSO: &[(&str, &str, &str)] = &[
    ("towline-cli", "towline-lab", "`towline lab` runs the simulation for its user"),
    ("towline-turn", "towline-ice", "TURN messages are STUN messages, and one codec of those is enough"),
];

/// Dev-dependencies on the simulated network are allowed above the protocol floor.
const LAB: &str = "towline-lab";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &tree.packages {
        let Some(floor) = floor_of(&package.name) else {
            violations.push(Violation {
                path: package.manifest_path(),
                line: package.manifest_line("name"),
                rule: "floors",
                found: format!("`{}` stands on no floor", package.name),
                fix: "add it to `MAP` in xtask/src/rules/floors.rs".to_owned(),
            });
            continue;
        };
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for dependency in package.dependencies(kind) {
                let known =
                    floor_of(&dependency).or_else(|| tree.package(&dependency).map(|_| Floor::Beside));
                let Some(below) = known else { continue };
                if !may_use(&package.name, floor, &dependency, below, kind == "dev-dependencies") {
                    violations.push(Violation {
                        path: package.manifest_path(),
                        line: package.manifest_line(&dependency),
                        rule: "floors",
                        found: format!(
                            "`{}` ({floor:?}) has `{dependency}` ({below:?}) among its {kind}",
                            package.name
                        ),
                        fix: "depend on floors below only; pass a value or a trait down instead".to_owned(),
                    });
                }
            }
        }
    }
    violations
}

fn floor_of(name: &str) -> Option<Floor> {
    MAP.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn may_use(user: &str, floor: Floor, used: &str, below: Floor, dev: bool) -> bool {
    if MAY_ALSO.iter().any(|(from, to, _)| *from == user && *to == used) {
        return true;
    }
    match (floor, below) {
        (Floor::Beside, _) if user == LAB => dev || LAB_USES.contains(&used),
        (Floor::Beside, _) => true,
        (_, Floor::Beside) => dev && used == LAB && floor > Floor::Protocol,
        _ => below < floor,
    }
}

/// Every package inherits the lints of the workspace; `net`, which speaks to the system, may have its own.
pub(super) fn check_lints(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &tree.packages {
        let lints = package.manifest.get("lints");
        let inherits =
            lints.and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool).unwrap_or_default();
        let own = package.name == "towline-net" && forbids_or_denies_unsafe(lints);
        if !(inherits || own) {
            violations.push(Violation {
                path: package.manifest_path(),
                line: package.manifest_line("[lints"),
                rule: "lints",
                found: format!("`{}` does not take the lints of the workspace", package.name),
                fix: "add `[lints]` with `workspace = true`".to_owned(),
            });
        }
    }
    let workspace_lints = tree.root_manifest.get("workspace").map(|workspace| workspace.get("lints"));
    if workspace_lints.is_some_and(|lints| !forbids_or_denies_unsafe(lints)) {
        violations.push(Violation {
            path: "Cargo.toml".into(),
            line: 1,
            rule: "lints",
            found: "the workspace does not forbid unsafe code".to_owned(),
            fix: "set `unsafe_code = \"forbid\"` under `[workspace.lints.rust]`".to_owned(),
        });
    }
    violations
}

/// `net` may open single functions to unsafe code, so there it is denied and not forbidden.
fn forbids_or_denies_unsafe(lints: Option<&toml::Value>) -> bool {
    let level = lints.and_then(|lints| lints.get("rust")?.get("unsafe_code")?.as_str());
    matches!(level, Some("forbid" | "deny"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn broken(name: &str, manifest: &str) -> Vec<usize> {
        let tree = Tree::sample(vec![Package::sample(name, manifest, "")]);
        check(&tree).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn upwards_and_sideways_are_refused() {
        assert_eq!(broken("towline-dht", "[dependencies]\ntowline-net.workspace = true\n"), [4]);
        assert_eq!(broken("towline-dht", "[dependencies]\ntowline-ice.workspace = true\n"), [4]);
        assert_eq!(broken("towline-net", "[dependencies]\ntowline.workspace = true\n"), [4]);
        assert_eq!(broken("towline", "[dependencies]\ntowline-cli.workspace = true\n"), [4]);
        assert_eq!(broken("towline", "[dependencies]\ntowline-lab.workspace = true\n"), [4]);
        assert_eq!(broken("towline-identity", "[build-dependencies]\ntowline-dht.workspace = true\n"), [4]);
        assert_eq!(broken("towline-mux", "[dev-dependencies]\ntowline-lab.workspace = true\n"), [4]);
        assert_eq!(broken("towline-lab", "[dependencies]\ntowline.workspace = true\n"), [4]);
        let renamed = "[dependencies]\nx = { package = \"towline\", path = \"../towline\" }\n";
        assert_eq!(broken("towline-ice", renamed).len(), 1);
    }

    #[test]
    fn downwards_is_fine() {
        assert_eq!(broken("towline-tls", "[dependencies]\ntowline-identity.workspace = true\n"), [0; 0]);
        assert_eq!(broken("towline", "[dependencies]\ntowline-net = {}\ntowline-dht = {}\n"), [0; 0]);
        assert_eq!(broken("towline", "[dev-dependencies]\ntowline-lab = {}\n"), [0; 0]);
        assert_eq!(broken("towline-lab", "[dependencies]\ntowline-net = {}\n"), [0; 0]);
        assert_eq!(broken("towline-lab", "[dev-dependencies]\ntowline = {}\n"), [0; 0]);
        assert_eq!(broken("towline-fuzz", "[dependencies]\ntowline-mux = {}\n"), [0; 0]);
    }

    #[test]
    fn an_unknown_package_must_be_placed() {
        assert_eq!(broken("towline-new", "").len(), 1);
    }

    #[test]
    fn lints_must_be_inherited() {
        let count =
            |name, manifest| check_lints(&Tree::sample(vec![Package::sample(name, manifest, "")])).len();
        assert_eq!(count("towline-dht", ""), 1);
        assert_eq!(count("towline-dht", "[lints.rust]\nunsafe_code = \"forbid\"\n"), 1);
        assert_eq!(count("towline-dht", "[lints]\nworkspace = true\n"), 0);
        assert_eq!(count("towline-net", "[lints.rust]\nunsafe_code = \"deny\"\n"), 0);
        assert_eq!(count("towline-net", "[lints.rust]\nunsafe_code = \"allow\"\n"), 1);
    }

    #[test]
    fn the_workspace_must_forbid_unsafe_code() {
        let mut tree = Tree::sample(Vec::new());
        tree.root_manifest = "[workspace.lints.rust]\nmissing_docs = \"warn\"\n".parse().expect("valid");
        assert_eq!(check_lints(&tree).len(), 1);
        tree.root_manifest = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n".parse().expect("valid");
        assert_eq!(check_lints(&tree).len(), 0);
    }
}
