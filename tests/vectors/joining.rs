//! Vectors of what a new machine reads first: announcements, pairing codes, tickets.

use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use lanyard::base::DiscoveryKey;
use lanyard::wire::announce::{Announcement, Invitation};
use lanyard::wire::code::{Code, Ticket};
use lanyard::wire::codec::{self, List, Text};
use lanyard::wire::hello;

use crate::file::{Case, case};
use crate::statements::name;

/// The time at which tickets are read.
const NOW_MS: u64 = 1_800_000_000_000;

pub(crate) fn read_announcement(_: &str, bytes: &[u8]) -> Result<String, String> {
    let texts = bytes.split(|b| *b == 0).map(|text| {
        let at = text.iter().position(|b| *b == b'=');
        let key = std::str::from_utf8(&text[..at.unwrap_or(text.len())]).unwrap_or_default();
        (key, at.map(|at| &text[at + 1..]))
    });
    match Announcement::parse(texts).ok_or_else(|| "passed over".to_string())? {
        Announcement::Member(tag) => Ok(format!("member, tag {}", data_encoding::HEXLOWER.encode(&tag))),
        Announcement::Invitation(invitation) => {
            Ok(format!("invitation {} of {:?}", invitation.number, invitation.office))
        }
    }
}

fn texts(announcement: &Announcement) -> String {
    let texts: Vec<String> = announcement.texts().iter().map(|(key, value)| format!("{key}={value}")).collect();
    texts.join("\0")
}

pub(crate) fn announcements() -> Vec<Case> {
    const AS: &str = "announcement text";
    let member = Announcement::Member(hello::tag(&DiscoveryKey([0xd0; 32]), "k3v9q0m2x8"));
    let invitation = Announcement::Invitation(Invitation::new(4, "Müller & Söhne"));
    let tag = texts(&member)[6..].to_string();
    vec![
        case(AS, "a member", texts(&member)),
        case(AS, "an invitation", texts(&invitation)),
        case(AS, "an invitation without a name", "v=1\0i=4"),
        case(AS, "a key that a later version has", format!("z=9\0v=1\0t={tag}")),
        case(AS, "a tag in upper case", format!("v=1\0t={}", tag.to_uppercase())),
        case(AS, "the first of two versions counts", format!("v=1\0v=2\0t={tag}")),
        case(AS, "nothing", ""),
        case(AS, "no version", format!("t={tag}")),
        case(AS, "a later version", format!("v=2\0t={tag}")),
        case(AS, "a version without a value", format!("v\0t={tag}")),
        case(AS, "neither tag nor number", "v=1"),
        case(AS, "both tag and number", format!("v=1\0t={tag}\0i=4")),
        case(AS, "a tag cut short", format!("v=1\0t={}", &tag[..24])),
        case(AS, "a tag of 17 bytes", format!("v=1\0t={}", BASE32_NOPAD.encode(&[7; 17]))),
        case(AS, "a tag of other letters", format!("v=1\0t=1{}", &tag[1..])),
        case(AS, "a number beyond 65535", "v=1\0i=65536"),
        case(AS, "a number with a sign", "v=1\0i=+4"),
        case(AS, "a number with a blank", "v=1\0i= 4"),
        case(AS, "an empty number", "v=1\0i="),
        case(AS, "a name of 201 bytes", format!("v=1\0i=4\0o={}", "x".repeat(201))),
        case("announcement", "a name that is no UTF-8", b"v=1\0i=4\0o=\xff"),
    ]
}

pub(crate) fn read_code(_: &str, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let code = Code::from_str(text).map_err(|e| e.to_string())?;
    Ok(format!("{code}, secret {}", data_encoding::HEXLOWER.encode(&code.secret())))
}

pub(crate) fn codes() -> Vec<Case> {
    const AS: &str = "pairing code text";
    vec![
        case(AS, "a code", "4-harvest-violin"),
        case(AS, "the highest number, the last words", "99-zoo-zone"),
        case(AS, "as people type it", " 4 Harvest - VIOLIN "),
        case(AS, "first letters only", "4-harv-viol"),
        case(AS, "nothing", ""),
        case(AS, "no number", "harvest-violin"),
        case(AS, "one word", "4-harvest"),
        case(AS, "three words", "4-harvest-violin-zoo"),
        case(AS, "the number last", "harvest-violin-4"),
        case(AS, "number 0", "0-harvest-violin"),
        case(AS, "number 100", "100-harvest-violin"),
        case(AS, "a number with a sign", "+4-harvest-violin"),
        case(AS, "a mistyped word", "4-harvset-violin"),
        case(AS, "a word that the list does not have", "4-harvest-lanyard"),
        case(AS, "letters that several words have", "4-har-violin"),
        case(AS, "a ticket", "lanyard-ticket-1"),
    ]
}

fn ticket() -> Ticket {
    Ticket {
        number: 1000,
        secret: [7; 32],
        addresses: List::new(vec![Text::new("192.0.2.7:47474").expect("short")]).expect("one"),
        office: name("Harvest & Daughters"),
        expires_at_ms: NOW_MS + 1,
    }
}

pub(crate) fn read_ticket(_: &str, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let ticket = Ticket::from_text(text, NOW_MS).map_err(|e| e.to_string())?;
    Ok(format!("invitation {} of {:?}, {} addresses", ticket.number, &*ticket.office, ticket.addresses.len()))
}

/// A ticket whose contents are these bytes, under a good checksum.
fn sealed(contents: &[u8]) -> String {
    let sum = blake3::derive_key("lanyard 1 ticket checksum", contents);
    format!("lanyard-ticket-1\n{}\n", BASE32_NOPAD.encode(&[contents, &sum[..8]].concat()).to_lowercase())
}

pub(crate) fn tickets() -> Vec<Case> {
    const AS: &str = "ticket text";
    let text = ticket().to_text();
    let contents = codec::encode(&ticket());
    let one_line = format!("lanyard-ticket-1 {}", text[17..].replace('\n', ""));
    let expired = Ticket { expires_at_ms: NOW_MS, ..ticket() };
    let typed = format!("{}{}{}", &text[..40], if &text[40..41] == "a" { "b" } else { "a" }, &text[41..]);
    let many: Vec<u8> = [&codec::encode(&(1000u16, [7u8; 32], 17u8))[..], &[0; 40]].concat();
    vec![
        case(AS, "a ticket", text.clone()),
        case(AS, "other line ends and blanks", text.replace('\n', "\r\n  ")),
        case(AS, "on one line", one_line),
        case(AS, "nothing", ""),
        case(AS, "a code", "4-harvest-violin"),
        case(AS, "the mark alone", "lanyard-ticket-1"),
        case(AS, "no contents", "lanyard-ticket-1\n"),
        case(AS, "version 0", text.replacen("-1\n", "-0\n", 1)),
        case(AS, "a later version", text.replacen("-1\n", "-2\n", 1)),
        case(AS, "a version that is no number", text.replacen("-1\n", "-x\n", 1)),
        case(AS, "a letter changed", typed),
        case(AS, "a letter lost", text[..text.len() - 2].to_string()),
        case(AS, "expired this very moment", expired.to_text()),
        case(AS, "a byte after the contents", sealed(&[&contents[..], &[0]].concat())),
        case(AS, "contents cut short", sealed(&contents[..contents.len() - 1])),
        case(AS, "17 addresses", sealed(&many)),
        case(AS, "a number in too many bytes", sealed(&[&[0xe8, 0x87, 0x00][..], &contents[2..]].concat())),
        case(AS, "more than 4 KiB", "x".repeat(4097)),
    ]
}
