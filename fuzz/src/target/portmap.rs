//! What routers, and whoever says to be one, answer when they are asked for ports.

use std::net::IpAddr;

use towline_portmap::upnp::{self, Action, Description, HttpError, Location, Reader, Response};
use towline_portmap::{Transport, natpmp, pcp};

use super::chunks;

/// Who is asked.
const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 1));

/// Starts of answers, nonces and ports as below.
pub(super) const PACKETS: &[&[u8]] = &[
    &[0, 128, 0, 0],
    &[0, 129, 0, 0],
    &[0, 130, 0, 0],
    &[0, 129, 0, 1],
    &[2, 0x80, 0, 0],
    &[2, 0x81, 0, 0],
    &[2, 0x81, 0, 12],
    &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
    &[17, 0, 0, 0, 0x10, 0x7e],
    &[6, 0, 0, 0, 0x10, 0x7e],
    &[0x10, 0x7e],
    &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
];

/// An answer to each question of PCP: what is read has answered the question, and what names another host's is not read.
pub(super) fn pcp(input: &[u8]) {
    let map = |transport| pcp::Request::Map {
        nonce: [7; 12],
        transport,
        internal: 4222,
        external: 0,
        lifetime: 7200,
    };
    for request in [pcp::Request::Announce, map(Transport::Udp), map(Transport::Tcp)] {
        match pcp::Answer::decode(request, input) {
            Ok(pcp::Answer::Here { .. }) => assert_eq!(request, pcp::Request::Announce),
            Ok(pcp::Answer::Mapped { .. }) => {
                assert!(request.is_answered_by(input) && input.len() >= 60 && input.len() <= pcp::MAX_LEN);
                assert_eq!(input[24..36], [7; 12], "of another");
                let other = if input[36] == 17 { Transport::Tcp } else { Transport::Udp };
                assert!(pcp::Answer::decode(map(other), input).is_err(), "one answer to two questions");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The same of NAT-PMP.
pub(super) fn natpmp(input: &[u8]) {
    let map = |transport| natpmp::Request::Map { transport, internal: 4222, external: 0, lifetime: 7200 };
    let requests = [natpmp::Request::Address, map(Transport::Udp), map(Transport::Tcp)];
    let read = requests.map(|request| {
        let answer = natpmp::Answer::decode(request, input);
        assert!(answer.is_err() || request.is_answered_by(input), "{answer:?} is no answer to {request:?}");
        answer.is_ok()
    });
    assert!(read.into_iter().filter(|read| *read).count() <= 1, "one answer to several questions");
}

/// Fields of an answer to a search.
pub(super) const SEARCH: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n",
    b"ST: urn:schemas-upnp-org:service:WANIPConnection:1\r\n",
    b"LOCATION: http://192.168.1.1:5000/x\r\n",
    b"Location: ",
    b"http://192.168.1.1",
    b"http://203.0.113.1/",
    b"http://[::1]/",
    b":80",
    b":0",
    b"?",
    b"\r\n\r\n",
];

/// No more than the router itself is asked, and no more than one request, whatever an address says.
fn harmless(at: &Location) {
    assert_eq!(at.server.ip(), ROUTER, "it points elsewhere");
    assert!(at.server.port() != 0 && at.path.starts_with('/'));
    for (request, fields) in [(upnp::get(at), 3), (upnp::post(at, "urn:x#Y", "body"), 6)] {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut read = httparse::Request::new(&mut headers);
        let status = read.parse(&request).expect("a request is HTTP");
        assert!(status.is_complete() && read.path == Some(at.path.as_str()), "{at}");
        assert_eq!(read.headers.len(), fields, "{at} smuggles a header in");
    }
}

/// An answer to a search.
pub(super) fn search(input: &[u8]) {
    let Ok(answer) = upnp::Answer::parse(input, ROUTER) else { return };
    harmless(&answer.location);
    assert_eq!(Location::parse(&answer.location.to_string(), ROUTER).as_ref(), Ok(&answer.location));
}

/// Parts of responses.
pub(super) const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 500 No\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"2\r\nhe\r\n",
    b";x=y\r\n",
    b"0\r\n\r\n",
    b"ffffffff\r\n",
    b"18446744073709551615",
];

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Response, HttpError> {
    let mut reader = Reader::default();
    for piece in pieces {
        if let Some(response) = reader.push(piece)? {
            return Ok(response);
        }
    }
    reader.finish()
}

/// A response in pieces is the same as in one, and no longer than what came.
pub(super) fn response(input: &[u8]) {
    let rest = input.get(1..).unwrap_or_default();
    let whole = read(std::iter::once(rest));
    assert_eq!(read(chunks(input)), whole);
    if let Ok(response) = whole {
        assert!(response.body.len() <= rest.len());
    }
}

/// Elements of descriptions and answers.
pub(super) const ELEMENTS: &[&[u8]] = &[
    b"<root>",
    b"</root>",
    b"<URLBase>",
    b"</URLBase>",
    b"<service>",
    b"</service>",
    b"<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>",
    b"<serviceType>urn:schemas-upnp-org:service:WANPPPConnection:2</serviceType>",
    b"<controlURL>",
    b"</controlURL>",
    b"http://192.168.1.1:1/",
    b"<!DOCTYPE r [<!ENTITY a \"aaaa\">]>",
    b"&a;",
    b"&#10;",
    b"<![CDATA[",
    b"]]>",
    b"<a><a><a><a><a><a><a><a>",
    b" xmlns:s=\"urn:x\"",
    b"<errorCode>",
    b"</errorCode>",
    b"<errorDescription>",
    b"</errorDescription>",
    b"<AddPortMappingResponse/>",
    b"<AddAnyPortMappingResponse>",
    b"<NewReservedPort>",
    b"<NewExternalIPAddress>",
];

/// What a router says of itself.
pub(super) fn description(input: &[u8]) {
    let here = Location::parse("http://192.168.1.1:5000/igd/root.xml", ROUTER).expect("a good address");
    let Ok(description) = Description::parse(input, &here) else { return };
    assert!((1..=16).contains(&description.services.len()));
    for service in &description.services {
        harmless(&service.control);
        assert!((1..=2).contains(&service.version()));
    }
}

/// Answers to actions.
pub(super) fn action(input: &[u8]) {
    let transport = Transport::Udp;
    let (external, internal) = (4222, ([192, 168, 1, 2].into(), 4222));
    let actions = [
        Action::ExternalAddress,
        Action::Add { transport, external, internal, lease: 3600, description: "x" },
        Action::AddAny { transport, external, internal, lease: 3600, description: "x" },
        Action::Delete { transport, external },
    ];
    for action in actions {
        match action.read(input) {
            Ok(upnp::Outcome::Port(port)) => assert_ne!(port, 0),
            Ok(_) => {}
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() <= 1024 && !text.contains(|c: char| c.is_control()), "{text:?}");
            }
        }
    }
}
