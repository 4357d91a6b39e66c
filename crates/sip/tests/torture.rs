//! Messages in the manner of RFC 4475, cut to what a stream can carry: odd ones that are right, and wrong ones.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{parse, request};
use towline_sip::{HeaderName, Limits, Method, ParseError, StreamFault, StreamParser, Uri};

/// Lines with CRLF at their ends.
fn lines(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn fault(bytes: &[u8]) -> StreamFault {
    let mut parser = StreamParser::new(Limits::default());
    parser.push(bytes);
    let fault = parser.next_message().unwrap_err();
    assert_eq!(parser.next_message(), Err(fault.clone()), "a fault is final");
    parser.push(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((parser.next_message(), parser.held()), (Err(fault.clone()), 0));
    fault
}

fn rule(bytes: &[u8]) -> ParseError {
    let StreamFault::Framing(error) = fault(bytes) else { panic!("truncated") };
    error
}

/// In the manner of 3.1.1.1: folding, compact forms, odd cases, spaces, escapes, several values, unknown fields.
#[test]
fn a_short_tortuous_invite() {
    let message = request(lines(
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\n\
         TO :\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\n\
         from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n\
         MaX-fOrWaRdS: 0068\n\
         Call-ID: wsinv.ndaksdj@192.0.2.1\n\
         Content-Length   : 4\n\
         cseq: 0009\n  INVITE\n\
         Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\n\
         s :\n\
         NewFangledHeader:   newfangled value\n continued newfangled value\n\
         UnknownHeaderWithUnusualValue: ;;,,;;,;\n\
         Content-Type: application/sdp\n\
         Route:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n\
         v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n\
         m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n\
         \n\
         v=0\n",
    )
    .strip_suffix(b"\n")
    .unwrap());
    let essentials = message.essentials().unwrap();
    assert_eq!((essentials.cseq.number, &essentials.cseq.method), (9, &Method::Invite));
    assert_eq!((essentials.to.tag(), essentials.from.tag()), (Some("1918181833n"), Some("98asjd8")));
    assert_eq!(essentials.from.display.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(essentials.via.to_string(), "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw");
    assert_eq!(message.headers.values(&HeaderName::Via).count(), 3);
    assert_eq!(message.headers.get(&HeaderName::Subject), Some(""));
    let unknown = HeaderName::from_name("newfangledheader").unwrap();
    assert_eq!(message.headers.get(&unknown), Some("newfangled value continued newfangled value"));
    assert_eq!(message.body, b"v=0\r");
}

/// In the manner of 3.1.1.2: every character a token may have.
#[test]
fn a_wide_range_of_valid_characters() {
    let message = request(&lines(
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0\n\
         Via: SIP/2.0/UDP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\n\
         To: \"BEL:\\\u{7f}\" <sip:x@example.com>\n\
         From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\u{440}\u{430}\u{431}\";tag=_token~1'+`*%!-.\n\
         Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\n\
         CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\n\
         Max-Forwards: 255\n\
         extensionHeader-!.%*+_`'~: \u{5927}\u{505c}\u{96fb}\n\
         Content-Length: 0\n\n"
            .replace("BEL:\\\u{7f}", "quote")
            .as_str(),
    ));
    let essentials = message.essentials().unwrap();
    assert_eq!(essentials.cseq.method, message.method);
    assert_eq!(essentials.from.parameters.value("fromparam''~+*_!.-%"), Some("раб"));
    let Uri::Sip(uri) = &message.uri else { panic!("{}", message.uri) };
    assert_eq!(uri.host, "example.com");
    assert!(uri.user.as_deref().unwrap().starts_with("1_unusual.URI~"));
}

/// 3.1.1.10, 3.1.1.12: parameters and reasons nobody knows, codes nobody assigned.
#[test]
fn responses_with_unknown_codes_and_any_reason() {
    for (line, code, reason) in [
        ("SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}", 200, "= 2**3 * 5**2 \u{43d}\u{43e}"),
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 100", 100, ""),
        ("sip/2.0 699 Overly  Large", 699, "Overly  Large"),
    ] {
        let message = parse(&lines(&format!("{line}\nl: 0\n\n")));
        let towline_sip::Message::Response(response) = message else { panic!("{line}") };
        assert_eq!((response.status.code(), &*response.reason), (code, reason));
    }
}

#[test]
fn wrong_start_lines_end_the_stream() {
    for (line, error) in [
        ("", None),
        ("INVITE", Some(ParseError::StartLine)),
        ("INVITE sip:a@b", Some(ParseError::StartLine)),
        ("INVITE sip:a@b HTTP/1.1", Some(ParseError::StartLine)),
        ("GET / HTTP/1.1", Some(ParseError::StartLine)),
        ("INVITE sip:a@b SIP/7.0", Some(ParseError::Version)),
        ("INVITE  sip:a@b SIP/2.0", Some(ParseError::StartLine)),
        ("INVITE sip:a@b  SIP/2.0", Some(ParseError::StartLine)),
        ("INVITE <sip:a@b> SIP/2.0", Some(ParseError::Uri)),
        ("INVITE sip:a@b; lr SIP/2.0", Some(ParseError::StartLine)),
        ("IN VITE sip:a@b SIP/2.0", Some(ParseError::StartLine)),
        ("SIP/2.0 4294967301 better not", Some(ParseError::StatusCode)),
        ("SIP/2.0 099 low", Some(ParseError::StatusCode)),
        ("SIP/2.0 700 high", Some(ParseError::StatusCode)),
        ("SIP/3.0 200 OK", Some(ParseError::Version)),
        ("SIP/2.0 ", Some(ParseError::StatusCode)),
    ] {
        let bytes = lines(&format!("{line}\nContent-Length: 0\n\n"));
        match error {
            Some(error) => assert_eq!(rule(&bytes), error, "{line}"),
            // An empty line is a keep-alive; what follows it is a start line of its own.
            None => assert_eq!(rule(&bytes), ParseError::StartLine),
        }
    }
}

#[test]
fn wrong_headers_end_the_stream() {
    let with = |text: &str| lines(&format!("OPTIONS sip:a@b SIP/2.0\n{text}\n"));
    let length = HeaderName::ContentLength;
    for (text, error) in [
        ("", ParseError::Missing(length.clone())),
        ("Content-Length: 1\nl: 1\n", ParseError::Repeated(length.clone())),
        ("Content-Length: -999\n", ParseError::Value(length.clone())),
        ("Content-Length: 1, 1\n", ParseError::Value(length.clone())),
        ("Content-Length:\n", ParseError::Value(length.clone())),
        ("Content-Length: 99999999999999999999999999\n", ParseError::Value(length)),
        ("Content-Length: 0\nno colon\n", ParseError::HeaderLine),
        ("Content-Length: 0\n: no name\n", ParseError::HeaderLine),
        ("Content-Length: 0\nna me: x\n", ParseError::HeaderLine),
        (" folded: x\nContent-Length: 0\n", ParseError::HeaderLine),
        ("Content-Length: 0\nX: a\u{0}b\n", ParseError::Control),
        ("Content-Length: 0\nX: a\rb\n", ParseError::Control),
    ] {
        assert_eq!(rule(&with(text)), error, "{text:?}");
    }
    let mut latin = with("Content-Length: 0\nX: @\n");
    let at = latin.iter().rposition(|byte| *byte == b'@').unwrap();
    latin[at] = 0xe9;
    assert_eq!(rule(&latin), ParseError::NotUtf8);
    let mut bare = with("Content-Length: 0\nX: @\n");
    let at = bare.iter().rposition(|byte| *byte == b'@').unwrap();
    bare[at] = b'\n';
    assert_eq!(rule(&bare), ParseError::Control, "a line ends with both of CR and LF");
}

#[test]
fn bounds() {
    let limits = Limits::default();
    let field = "X: y\n";
    let many = |count| lines(&format!("OPTIONS sip:a@b SIP/2.0\nl: 0\n{}\n", field.repeat(count)));
    assert_eq!(request(&many(limits.headers - 1)).headers.len(), limits.headers);
    assert_eq!(rule(&many(limits.headers)), ParseError::TooManyHeaders { max: limits.headers });

    let long = |length| {
        let rest = "OPTIONS sip:a@b SIP/2.0\nl: 0\nX: \n\n".replace('\n', "\r\n").len();
        lines(&format!("OPTIONS sip:a@b SIP/2.0\nl: 0\nX: {}\n\n", "y".repeat(length - rest)))
    };
    request(&long(limits.head));
    let too_long = ParseError::HeadTooLong { max: limits.head };
    assert_eq!(rule(&long(limits.head + 1)), too_long);
    // Without an end in sight it is known as early.
    assert_eq!(rule(&long(limits.head + 5)[..=limits.head]), too_long);

    let body = |length: usize| {
        let mut bytes = lines(&format!("OPTIONS sip:a@b SIP/2.0\nl: {length:05}\n\n"));
        bytes.resize(bytes.len() + length, 0);
        bytes
    };
    let head = body(0).len();
    let largest = limits.message_in - head;
    assert_eq!(request(&body(largest)).body.len(), largest);
    let length = limits.message_in as u64 + 1;
    assert_eq!(rule(&body(largest + 1)[..head]), ParseError::TooLong { length, max: limits.message_in });
}

#[test]
fn garbage_is_known_by_its_first_bytes() {
    for garbage in [&b"\x16\x03\x01\x02"[..], b"\0", b"\xff\xfe", b"{\"a\"", b"\n", b"\rX", b"\r\n\r\n\x01"] {
        assert_eq!(rule(garbage), ParseError::StartLine, "{garbage:?}");
    }
}

#[test]
fn keep_alives_are_skipped() {
    let mut parser = StreamParser::new(Limits::default());
    for _ in 0..10_000 {
        parser.push(b"\r\n\r\n");
        assert_eq!((parser.next_message(), parser.held()), (Ok(None), 0));
    }
    parser.push(b"\r");
    assert_eq!(parser.next_message(), Ok(None));
    parser.push(b"\nOPTIONS sip:a@b SIP/2.0\r\nl: 0\r\n\r\n\r\n");
    assert!(parser.next_message().unwrap().is_some());
    assert_eq!((parser.next_message(), parser.end()), (Ok(None), Ok(())));
}

#[test]
fn a_multipart_body_is_left_whole() {
    let body =
        "--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: a/b\r\n\r\n\u{0}\r\n--b--\r\n";
    let text = format!(
        "MESSAGE sip:a@b SIP/2.0\r\nc: multipart/mixed;boundary=\"b\"\r\nl: {}\r\n\r\n{body}SIP/2.0",
        body.len()
    );
    let mut parser = StreamParser::new(Limits::default());
    parser.push(text.as_bytes());
    let Some(towline_sip::Message::Request(message)) = parser.next_message().unwrap() else { panic!() };
    assert_eq!(message.body, body.as_bytes());
    assert_eq!(message.content_type(), Some("multipart/mixed;boundary=\"b\""));
    assert_eq!((parser.next_message(), parser.held()), (Ok(None), 7));
    assert_eq!(parser.end(), Err(StreamFault::Truncated));
}

#[test]
fn parameters_are_bounded() {
    let with = |count: usize| {
        let parameters: Vec<_> = (0..count).map(|n| format!(";p{n}")).collect();
        let parameters = parameters.concat();
        let base = "To: <sip:a@b>\nCall-ID: 1\nCSeq: 1 OPTIONS\nVia: SIP/2.0/TLS a;branch=z9hG4bK\n";
        request(&lines(&format!(
            "OPTIONS sip:a@b SIP/2.0\n{base}From: <sip:a@b{parameters}>{parameters}\nl: 0\n\n"
        )))
    };
    with(32).essentials().unwrap();
    assert_eq!(with(33).essentials(), Err(ParseError::Value(HeaderName::From)));
}
