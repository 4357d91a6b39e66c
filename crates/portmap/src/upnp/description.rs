//! The description of a router: which of its services opens ports (UPnP IGD 1 and 2).

use super::location::{Location, LocationError};

/// Elements and texts of a description that are looked at.
const MAX_NODES: u32 = 8192;
/// Services that are looked at.
const MAX_SERVICES: usize = 16;

/// A service that opens ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its kind, which its actions name: `urn:schemas-upnp-org:service:WANIPConnection:2`.
    pub kind: String,
    /// Where its actions are called.
    pub control: Location,
}

impl Service {
    /// The number at the end of the kind.
    pub fn version(&self) -> u8 {
        self.kind.rsplit(':').next().and_then(|version| version.parse().ok()).unwrap_or(1)
    }
}

/// What a router says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Services that open ports; at least one. A router with two uplinks has two.
    pub services: Vec<Service>,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// It is no XML, or has a document type, or more than 8192 nodes.
    #[error("the description is no XML that is read")]
    Malformed,
    /// It has no service that opens ports.
    #[error("the router has no service that opens ports")]
    NoService,
    /// The services are elsewhere.
    #[error("the address of its service: {0}")]
    Location(#[from] LocationError),
}

impl Description {
    /// Reads the description that lies at `here`.
    pub fn parse(xml: &[u8], here: &Location) -> Result<Self, DescriptionError> {
        let text = std::str::from_utf8(xml).map_err(|_| DescriptionError::Malformed)?;
        // Some routers end the document with a zero byte.
        let text = text.trim_end_matches(['\0', '\n', '\r', ' ']).trim_start_matches('\u{feff}');
        let options =
            roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(text, options)
            .map_err(|_| DescriptionError::Malformed)?;
        let child = |node: roxmltree::Node<'_, '_>, name: &str| {
            let found = node.children().find(|child| child.tag_name().name() == name)?;
            found.text().map(|text| text.trim().to_owned())
        };
        // IGD 1 may say what its addresses are relative to.
        let base = match child(document.root_element(), "URLBase").filter(|base| !base.is_empty()) {
            Some(base) => Location::parse(&base, here.server.ip())?,
            None => here.clone(),
        };
        let mut services = Vec::new();
        let mut elsewhere = None;
        for node in
            document.descendants().filter(|node| node.tag_name().name() == "service").take(MAX_SERVICES)
        {
            let Some(kind) = child(node, "serviceType").filter(|kind| is_wanted(kind)) else { continue };
            let Some(control) = child(node, "controlURL") else { continue };
            match base.join(&control) {
                Ok(control) => services.push(Service { kind, control }),
                Err(error) => elsewhere = Some(error),
            }
        }
        match (services.is_empty(), elsewhere) {
            (true, Some(error)) => Err(error.into()),
            (true, None) => Err(DescriptionError::NoService),
            (false, _) => Ok(Self { services }),
        }
    }
}

fn is_wanted(kind: &str) -> bool {
    let version = kind
        .strip_prefix("urn:schemas-upnp-org:service:WANIPConnection:")
        .or_else(|| kind.strip_prefix("urn:schemas-upnp-org:service:WANPPPConnection:"));
    version.is_some_and(|version| matches!(version, "1" | "2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Location {
        Location::parse("http://192.168.1.1:5000/igd/root.xml", [192, 168, 1, 1].into()).unwrap()
    }

    fn description(services: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\"><specVersion><major>1</major></specVersion>\
             <device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>\
             <deviceList><device><serviceList>{services}</serviceList></device></deviceList></device></deviceList></device>\
             </root>\0\n"
        )
    }

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType><serviceId>x</serviceId>\
             <controlURL>{control}</controlURL></service>"
        )
    }

    #[test]
    fn the_service_that_opens_ports_is_found_deep_inside() {
        let both =
            service("WANCommonInterfaceConfig:1", "/c") + &service("WANIPConnection:2", " /ctl/IPConn ");
        let found = Description::parse(description(&both).as_bytes(), &here()).unwrap();
        let [service] = found.services.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (service.version(), service.control.to_string().as_str()),
            (2, "http://192.168.1.1:5000/ctl/IPConn")
        );
        let relative = self::service("WANPPPConnection:1", "ctl");
        let found = Description::parse(description(&relative).as_bytes(), &here()).unwrap();
        assert_eq!(found.services[0].control.path, "/igd/ctl");
    }

    #[test]
    fn others_are_refused() {
        let parse = |text: String| Description::parse(text.as_bytes(), &here());
        assert_eq!(parse(description("")), Err(DescriptionError::NoService));
        assert_eq!(parse(description(&service("WANIPConnection:7", "/c"))), Err(DescriptionError::NoService));
        let away = description(&service("WANIPConnection:1", "http://10.9.9.9/c"));
        assert_eq!(parse(away), Err(LocationError::Elsewhere([10, 9, 9, 9].into()).into()));
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><root>&b;</root>";
        assert_eq!(parse(bomb.to_owned()), Err(DescriptionError::Malformed));
        assert_eq!(
            parse(format!("<root>{}</root>", "<a/>".repeat(10_000))),
            Err(DescriptionError::Malformed)
        );
        assert_eq!(parse("no xml".to_owned()), Err(DescriptionError::Malformed));
        assert_eq!(Description::parse(&[0xff, 0xfe], &here()), Err(DescriptionError::Malformed));
        let deep = "<a>".repeat(5000) + &"</a>".repeat(5000);
        assert!(parse(deep).is_err());
        let based = "<root><URLBase>http://1.2.3.4/</URLBase></root>";
        assert_eq!(parse(based.to_owned()), Err(LocationError::Elsewhere([1, 2, 3, 4].into()).into()));
    }
}
