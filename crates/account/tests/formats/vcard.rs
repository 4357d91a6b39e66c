use proptest::collection::vec;
use proptest::prelude::*;
use towline_account::VCard;
use towline_account::vcard::{MAX_FIELD_LEN, MAX_VCARD_LEN, Photo, VCardError};

#[test]
fn cards_of_jami_are_read_and_written() {
    let card = VCard::named("Alice");
    assert_eq!(card.build().unwrap(), "BEGIN:VCARD\nVERSION:2.1\nFN:Alice\nEND:VCARD\n");
    // Without a line end at the end, as in the requests of a daemon.
    let bare = VCard::parse(b"BEGIN:VCARD\nVERSION:2.1\nFN:Alice\nEND:VCARD");
    assert_eq!(bare.as_ref(), Ok(&card));
    let with_photo = VCard {
        name: "Alice, of W; \\o/".into(),
        uid: "3ca5b8fd".into(),
        photo: Some(Photo { format: "PNG".into(), bytes: vec![0x89, b'P', b'N', b'G'] }),
    };
    let text = with_photo.build().unwrap();
    assert!(text.contains("\nFN:Alice, of W; \\o/\n"), "version 2.1 has no escapes: {text}");
    assert!(text.contains("\nPHOTO;ENCODING=BASE64;TYPE=PNG:iVBORw==\n"), "{text}");
    assert_eq!(VCard::parse(text.as_bytes()), Ok(with_photo));
}

#[test]
fn cards_of_others_are_read() {
    let card = VCard::parse(
        b"\xef\xbb\xbfbegin:vcard\r\nVERSION:3.0\r\nN:Doe;Jane;;;\r\nitem1.FN;CHARSET=UTF-8:Doe\\, Ja\r\n ne\\nX\r\n\
          FN:other\r\nPHOTO;TYPE=JPEG;ENCODING=b:AQ\r\n  ID\r\n\tBA==\r\nno property\r\nEND:VCARD\r\nBEGIN:VCARD\r\n",
    );
    let photo = Photo { format: "JPEG".into(), bytes: vec![1, 2, 3, 4] };
    assert_eq!(card, Ok(VCard { name: "Doe, Jane X".into(), uid: String::new(), photo: Some(photo) }));
    let commands =
        VCard::parse("BEGIN:VCARD\nVERSION:2.1\nFN:\x1b[2JBob\u{9b}\x07\nUID:\0\nEND:VCARD".as_bytes());
    assert_eq!(
        commands,
        Ok(VCard { uid: " ".into(), ..VCard::named(" [2JBob  ") }),
        "nothing for a terminal to obey"
    );
    let old = VCard::parse(b"BEGIN:VCARD\nVERSION:2.1\nPHOTO;PNG;BASE64:AQID\nEND:VCARD").unwrap();
    assert_eq!(old.photo, Some(Photo { format: "PNG".into(), bytes: vec![1, 2, 3] }));
    let elsewhere =
        VCard::parse(b"BEGIN:VCARD\nPHOTO;VALUE=uri:http://example.org/x.png\nEND:VCARD").unwrap();
    assert_eq!(elsewhere, VCard::default());
}

#[test]
fn bad_cards_are_refused_by_name() {
    for (bad, error) in [
        (&b""[..], VCardError::Begin),
        (b"FN:Alice\nBEGIN:VCARD\nEND:VCARD", VCardError::Begin),
        (b"BEGIN:VCALENDAR\nEND:VCARD", VCardError::Begin),
        (b"BEGIN:VCARD", VCardError::End),
        (b"BEGIN:VCARD\nFN:Alice\nEND:VEVENT", VCardError::End),
        (b"BEGIN:VCARD\nFN:\xff\nEND:VCARD", VCardError::NotText),
        (b"BEGIN:VCARD\nPHOTO;BASE64:?\nEND:VCARD", VCardError::Photo),
    ] {
        assert_eq!(VCard::parse(bad), Err(error));
    }
    let long = "x".repeat(MAX_FIELD_LEN + 1);
    let card = format!("BEGIN:VCARD\nUID:{long}\nEND:VCARD");
    assert_eq!(VCard::parse(card.as_bytes()), Err(VCardError::Field(MAX_FIELD_LEN + 1)));
    assert_eq!(VCard::named(long).build(), Err(VCardError::Field(MAX_FIELD_LEN + 1)));
    assert_eq!(VCard::parse(&vec![b'\n'; MAX_VCARD_LEN + 1]), Err(VCardError::TooLong(MAX_VCARD_LEN + 1)));
    let photo = |format: &str, len| {
        let photo = Photo { format: format.into(), bytes: vec![0; len] };
        VCard { photo: Some(photo), ..VCard::default() }.build()
    };
    assert!(matches!(photo("PNG", MAX_VCARD_LEN), Err(VCardError::TooLong(_))));
    assert!(photo("PNG", MAX_VCARD_LEN / 4 * 3 - 100).is_ok());
    assert_eq!(photo("P:N", 1), Err(VCardError::Format));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in "\\PC{0,40}",
        uid in "[!-~]{0,40}",
        photo in proptest::option::of(("[A-Z]{0,4}", vec(any::<u8>(), 0..300))),
    ) {
        let photo = photo
            // A format of these names would be taken for the encoding.
            .filter(|(format, _)| format != "B" && format != "BASE64")
            .map(|(format, bytes)| Photo { format, bytes });
        let card = VCard { name, uid, photo };
        prop_assert_eq!(VCard::parse(card.build().unwrap().as_bytes()), Ok(card));
    }

    #[test]
    fn nothing_panics(lines in vec("(BEGIN:VCARD|END:VCARD|FN|UID|PHOTO;BASE64|:|;|=|\\\\|\r|\n|\t| |\\PC){0,20}", 0..10)) {
        let text = ["BEGIN:VCARD\n", &lines.join("\n"), "\nEND:VCARD"].concat();
        if let Ok(card) = VCard::parse(text.as_bytes()) {
            // A text without escapes stays what it is.
            let again = VCard::parse(card.build().unwrap().as_bytes()).unwrap();
            prop_assert_eq!(VCard::parse(again.build().unwrap().as_bytes()), Ok(again));
        }
    }
}
