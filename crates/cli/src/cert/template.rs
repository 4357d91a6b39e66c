//! What `cert -i` writes besides certificates.

use std::path::Path;

use super::files::Pair;

/// Port and address of the service that everybody has in mind.
const SSH: &str = "127.0.0.1:22";

/// The configuration of a server, for `towline nc -l -d` and dnc.
pub(super) fn server(pair: &Pair) -> String {
    format!(
        "{}\n# Whether everybody who knows the id of this device may connect. If not: devices that the same CA signed.\n\
         anonymous: false\n\n\
         # What others may reach. If nothing is listed, towline forwards to nothing, but dnc to everything.\n\
         authorized_services:\n  - ip: \"127.0.0.1\"\n    port: 22\n",
        common(pair)
    )
}

/// The configuration of a client, for `towline nc -d` and dnc.
pub(super) fn client(pair: &Pair) -> String {
    format!(
        "{}\n# The service to reach, as the other device sees it: {SSH} is its SSH server.\n\
         ip: \"127.0.0.1\"\nport: 22\n",
        common(pair)
    )
}

fn common(pair: &Pair) -> String {
    format!(
        "# Written by `towline cert`. dnc reads it too.\n\n\
         # The DHT node to join through.\n\
         bootstrap: \"bootstrap.jami.net\"\n\n\
         # Who this device is: a certificate chain, and its private key.\n\
         certificate: {}\nprivateKey: {}\n\n\
         # A relay for when there is no direct way: turn_host, turn_user, turn_pass, turn_realm. Towline takes its relays from --relay.\n",
        quoted(&pair.certificate),
        quoted(&pair.key)
    )
}

/// What to add to the configuration of OpenSSH.
pub(super) fn ssh_host(configuration: &Path) -> String {
    // The shell that runs it is told where the word begins and ends; `%` is ssh's own.
    let path = configuration.to_string_lossy().replace('\'', r"'\''").replace('%', "%%");
    format!("Host dnc/*\n    ProxyCommand towline nc -q -d '{path}' %h\n")
}

/// A text of YAML between quotation marks.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for character in path.to_string_lossy().chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            character if character.is_control() => {
                text.extend(format!("\\U{:08x}", u32::from(character)).chars());
            }
            character => text.push(character),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(quoted(Path::new("/a b/\"c\"\\d\n")), r#""/a b/\"c\"\\d\U0000000a""#);
        assert_eq!(
            ssh_host(Path::new("/it's/100%/c.yml")),
            "Host dnc/*\n    ProxyCommand towline nc -q -d '/it'\\''s/100%%/c.yml' %h\n"
        );
    }
}
