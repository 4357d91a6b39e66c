//! The checked-out tree: packages with their manifests and sources, and the other text files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::source::{Source, is_test_file};

/// One package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root, `crates/dht`.
    pub(crate) dir: PathBuf,
    pub(crate) manifest: toml::Table,
    pub(crate) manifest_text: String,
    /// Everything under `src`, `tests`, `benches` and `examples`.
    pub(crate) sources: Vec<Source>,
}

impl Package {
    /// A package of one source file, for the samples of the rules.
    #[cfg(test)]
    pub(crate) fn sample(name: &str, manifest: &str, code: &str) -> Self {
        let dir = PathBuf::from("crates").join(name.trim_start_matches("towline-"));
        let manifest_text = format!("[package]\nname = \"{name}\"\n{manifest}");
        let source = Source::new(dir.join("src/lib.rs"), code);
        Self::new(dir, manifest_text, vec![source]).expect("the sample manifest is valid")
    }

    fn new(dir: PathBuf, manifest_text: String, mut sources: Vec<Source>) -> Result<Self> {
        let manifest: toml::Table =
            manifest_text.parse().with_context(|| format!("{}/Cargo.toml", dir.display()))?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(toml::Value::as_str)
            .with_context(|| format!("{}/Cargo.toml names no package", dir.display()))?
            .to_owned();
        mark_test_modules(&mut sources);
        Ok(Self { name, dir, manifest, manifest_text, sources })
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.dir.join("Cargo.toml")
    }

    /// The line of the manifest that starts with `word`; 1 when there is none.
    pub(crate) fn manifest_line(&self, word: &str) -> usize {
        let starts = |line: &str| {
            line.trim_start().strip_prefix(word).is_some_and(|rest| {
                rest.starts_with(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
            })
        };
        self.manifest_text.lines().position(starts).map_or(1, |index| index + 1)
    }

    /// Names of the packages in the tables called `kind` (`dependencies`, `dev-dependencies`, ..), those
    /// under `[target.'cfg(..)']` included. A renamed dependency is given by its real name.
    pub(crate) fn dependencies(&self, kind: &str) -> Vec<String> {
        let of = |table: &toml::Table| -> Vec<String> {
            let Some(entries) = table.get(kind).and_then(toml::Value::as_table) else { return Vec::new() };
            let real_name = |(key, value): (&String, &toml::Value)| {
                value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned()
            };
            entries.iter().map(real_name).collect()
        };
        let mut names = of(&self.manifest);
        if let Some(targets) = self.manifest.get("target").and_then(toml::Value::as_table) {
            names.extend(targets.values().filter_map(toml::Value::as_table).flat_map(of));
        }
        names
    }
}

/// A file that is not Rust but is read by people or machines.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// All that the rules look at.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) packages: Vec<Package>,
    /// Every text file of the tree, Rust sources included.
    pub(crate) texts: Vec<Text>,
    pub(crate) root_manifest: toml::Table,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let root_manifest: toml::Table =
            fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml of the workspace")?.parse()?;
        let mut files = Vec::new();
        list_files(root, Path::new(""), &mut files)?;
        files.sort();
        let mut texts = Vec::new();
        for path in files {
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                texts.push(Text { path, text });
            }
        }
        let mut packages = Vec::new();
        for dir in member_dirs(root, &root_manifest)? {
            let manifest = fs::read_to_string(root.join(&dir).join("Cargo.toml"))
                .with_context(|| format!("{}/Cargo.toml", dir.display()))?;
            let belongs = |text: &&Text| {
                text.path.extension().is_some_and(|extension| extension == "rs")
                    && text.path.strip_prefix(&dir).is_ok_and(|inside| {
                        ["src", "tests", "benches", "examples", "build.rs"]
                            .iter()
                            .any(|place| inside.starts_with(place))
                    })
            };
            let sources = texts.iter().filter(belongs).map(|t| Source::new(&t.path, &*t.text)).collect();
            packages.push(Package::new(dir, manifest, sources)?);
        }
        Ok(Self { packages, texts, root_manifest })
    }

    /// A tree of the given packages, for the samples of the rules.
    #[cfg(test)]
    pub(crate) fn sample(packages: Vec<Package>) -> Self {
        let texts = packages
            .iter()
            .flat_map(|package| &package.sources)
            .map(|source| Text { path: source.path.clone(), text: source.text.clone() })
            .collect();
        Self { packages, texts, root_manifest: toml::Table::new() }
    }

    /// The sources of a package that end up in a program.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

/// `#[cfg(test)] mod name;` makes test code of `name.rs` and all below `name/`.
fn mark_test_modules(sources: &mut [Source]) {
    let mut places: Vec<PathBuf> = Vec::new();
    for source in sources.iter() {
        let dir = source.path.parent().unwrap_or(Path::new(""));
        let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let base = if matches!(stem, "lib" | "main" | "mod") { dir.to_owned() } else { dir.join(stem) };
        places.extend(source.test_modules.iter().map(|module| base.join(module)));
    }
    for source in sources {
        if is_test_file(&source.path)
            || places.iter().any(|place| source.path.with_extension("").starts_with(place))
        {
            source.mark_as_test();
        }
    }
}

/// The member directories, `crates/*` written out.
fn member_dirs(root: &Path, manifest: &toml::Table) -> Result<Vec<PathBuf>> {
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(toml::Value::as_array)
        .context("the workspace lists no members")?;
    let mut dirs = Vec::new();
    for member in members.iter().filter_map(toml::Value::as_str) {
        let Some(parent) = member.strip_suffix("/*") else {
            dirs.push(PathBuf::from(member));
            continue;
        };
        for entry in fs::read_dir(root.join(parent)).with_context(|| parent.to_owned())? {
            let entry = entry?;
            if entry.path().join("Cargo.toml").is_file() {
                dirs.push(Path::new(parent).join(entry.file_name()));
            }
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// Files below `root/dir`, without build products and the version control's own.
fn list_files(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !matches!(entry.file_name().to_str(), Some("target" | ".git" | "node_modules")) {
                list_files(root, &path, files)?;
            }
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_every_form() {
        let package = Package::sample(
            "towline-x",
            "[dependencies]\na.workspace = true\nb = { package = \"real\", version = \"1\" }\n\
             [target.'cfg(unix)'.dependencies]\nc = \"1\"\n[dev-dependencies]\nd = \"1\"\n",
            "",
        );
        assert_eq!(package.dependencies("dependencies"), ["a", "real", "c"]);
        assert_eq!(package.dependencies("dev-dependencies"), ["d"]);
        assert_eq!(package.manifest_line("a"), 4);
    }

    #[test]
    fn a_test_module_makes_its_file_test_code() {
        let mut sources = vec![
            Source::new("crates/x/src/a.rs", "#[cfg(test)] mod tests;"),
            Source::new("crates/x/src/a/tests.rs", "fn f() {}"),
            Source::new("crates/x/src/a/tests_of_life.rs", "fn f() {}"),
        ];
        mark_test_modules(&mut sources);
        let in_test: Vec<bool> = sources.iter().map(|source| source.tokens[0].in_test).collect();
        assert_eq!(in_test, [true, true, false]);
    }
}
