//! Vectors of plain values: node ids, paths, numbers, lists, envelopes.

use lanyard::base::{FileTime, Level, NodeId, RelPath, Role, path};
use lanyard::wire::codec::{self, Bytes, DecodeError, List, Text};
use lanyard::wire::envelope::{Envelope, kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::file::{Case, case};

pub(crate) fn read_node_id(_: &str, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_string())?;
    NodeId::from_text(text).map(|id| id.to_hex()).map_err(|e| e.to_string())
}

pub(crate) fn node_ids() -> Vec<Case> {
    const AS: &str = "node id text";
    let text = NodeId([7; 32]).to_text();
    let typed = |at: usize, letter: &str| format!("{}{letter}{}", &text[..at], &text[at + 1..]);
    vec![
        case(AS, "a node id", text.as_bytes()),
        case(AS, "all key bytes zero", NodeId([0; 32]).to_text()),
        case(AS, "in upper case with blanks", text.to_uppercase().replace('-', " ")),
        case(AS, "without dashes", text.replace('-', "")),
        case(AS, "nothing", ""),
        case(AS, "the short form", NodeId([7; 32]).short()),
        case(AS, "a letter too few", &text.as_bytes()[..61]),
        case(AS, "a letter too many", format!("{text}a")),
        case(AS, "the first letter mistyped", typed(0, "b")),
        case(AS, "the last letter mistyped", typed(61, "z")),
        case(AS, "two neighbours swapped", format!("{}{}{}{}", &text[..9], &text[10..11], &text[9..10], &text[11..])),
        case(AS, "a digit that base32 does not have", typed(3, "1")),
        case(AS, "a letter beyond ASCII", typed(3, "ä")),
        case(AS, "an underscore for a dash", text.replacen('-', "_", 1)),
        case(AS, "padding", format!("{text}=")),
        case(AS, "hexadecimal", NodeId([7; 32]).to_hex()),
    ]
}

pub(crate) fn read_path(read_as: &str, bytes: &[u8]) -> Result<String, String> {
    let bytes = match read_as {
        "escaped path text" => path::unescape(std::str::from_utf8(bytes).map_err(|e| e.to_string())?)
            .ok_or_else(|| "a backslash starts no known escape".to_string())?,
        _ => bytes.to_vec(),
    };
    RelPath::new(&bytes).map(|path| format!("\"{path}\"")).map_err(|e| e.to_string())
}

pub(crate) fn paths() -> Vec<Case> {
    const AS: &str = "path";
    const ESCAPED: &str = "escaped path text";
    let deep = |names: usize| vec!["a"; names].join("/");
    let long = |bytes: usize| [vec![b"a".repeat(250); 16].join(&b'/'), b"b".repeat(bytes)].join(&b'/');
    vec![
        case(AS, "the root", ""),
        case(AS, "a path", "plans/office.pdf"),
        case(AS, "bytes that are no UTF-8", b"caf\xe9/\xff"),
        case(AS, "names of dots that are only names", ".../..a/.b"),
        case(AS, "a backslash and a line break are only bytes", b"a\\b\nc"),
        case(AS, "the reserved name below the root", "a/.lanyard"),
        case(AS, "a longer name that begins like the reserved one", ".lanyardignore"),
        case(AS, "a name of 255 bytes", [b'a'; 255]),
        case(AS, "256 names", deep(256)),
        case(AS, "4095 bytes", long(4095 - 251 * 16)),
        case(ESCAPED, "an escaped byte", "caf\\xe9"),
        case(ESCAPED, "an escaped backslash", "a\\\\xe9"),
        case(AS, "a slash alone", "/"),
        case(AS, "an absolute path", "/etc/passwd"),
        case(AS, "a slash at the end", "a/"),
        case(AS, "two slashes", "a//b"),
        case(AS, "a dot", "."),
        case(AS, "a dot within", "a/./b"),
        case(AS, "two dots", ".."),
        case(AS, "two dots first", "../a"),
        case(AS, "two dots within", "a/../../b"),
        case(AS, "two dots last", "a/.."),
        case(AS, "a NUL", b"a\0b"),
        case(AS, "a NUL alone", b"\0"),
        case(AS, "the reserved name", ".lanyard"),
        case(AS, "below the reserved name", ".lanyard/tmp/x"),
        case(AS, "the reserved name in other case", ".LanYard/tmp"),
        case(AS, "a name of 256 bytes", [b'a'; 256]),
        case(AS, "513 names", deep(513)),
        case(AS, "4096 bytes", long(4096 - 251 * 16)),
        case(ESCAPED, "an escaped NUL", "a\\x00"),
        case(ESCAPED, "an escaped way out", "\\x2e\\x2e/a"),
        case(ESCAPED, "an unknown escape", "a\\n"),
        case(ESCAPED, "an escape cut short", "a\\x4"),
        case(ESCAPED, "a sign for a digit", "a\\x+f"),
        case(ESCAPED, "a backslash at the end", "a\\"),
    ]
}

pub(crate) fn read_value(read_as: &str, bytes: &[u8]) -> Result<String, String> {
    fn take<T: Serialize + DeserializeOwned>(bytes: &[u8], show: impl Fn(&T) -> String) -> Result<String, String> {
        codec::decode::<T>("value", bytes, 64).map(|value| show(&value)).map_err(|e| e.to_string())
    }
    match read_as {
        "u8" => take::<u8>(bytes, ToString::to_string),
        "u16" => take::<u16>(bytes, ToString::to_string),
        "u32" => take::<u32>(bytes, ToString::to_string),
        "u64" => take::<u64>(bytes, ToString::to_string),
        "bool" => take::<bool>(bytes, ToString::to_string),
        "option of u16" => take::<Option<u16>>(bytes, |v| v.map_or("none".into(), |n| n.to_string())),
        "list of u16, at most 4" => take::<List<u16, 4>>(bytes, |v| format!("{v:?}")),
        "bytes, at most 4" => take::<Bytes<4>>(bytes, |v| path::escape(v)),
        "text, at most 4" => take::<Text<4>>(bytes, |v| path::escape(v.as_bytes())),
        "path" => take::<RelPath>(bytes, ToString::to_string),
        "level" => take::<Level>(bytes, ToString::to_string),
        "role" => take::<Role>(bytes, ToString::to_string),
        "file time" => take::<FileTime>(bytes, |v| format!("{} s {} ns", v.secs, v.nanos)),
        _ => panic!("no such type: {read_as}"),
    }
}

pub(crate) fn encoding() -> Vec<Case> {
    let list = "list of u16, at most 4";
    vec![
        case("u8", "a byte is itself", [0xff]),
        case("u16", "the largest number of one byte", [0x7f]),
        case("u16", "the smallest number of two bytes", [0x80, 0x01]),
        case("u16", "65535", [0xff, 0xff, 0x03]),
        case("u32", "4294967295", [0xff, 0xff, 0xff, 0xff, 0x0f]),
        case("u64", "18446744073709551615", [[0xff; 9].as_slice(), &[0x01]].concat()),
        case("bool", "true", [1]),
        case("option of u16", "none", [0]),
        case("option of u16", "some 300", [1, 0xac, 0x02]),
        case(list, "a list of two", [2, 0x01, 0xac, 0x02]),
        case("bytes, at most 4", "four bytes", [4, b'a', 0, 0xff, b'b']),
        case("text, at most 4", "two letters of two bytes", "\u{4}äö"),
        case("file time", "a second before 1970", [1, 5]),
        case("level", "manage", [3]),
        case("path", "a path is its bytes", b"\x03a/b"),
        case("u8", "nothing is no byte", []),
        case("u8", "a byte too many", [0xff, 0]),
        case("u16", "zero in two bytes", [0x80, 0x00]),
        case("u16", "one in three bytes", [0x81, 0x80, 0x00]),
        case("u16", "65536 in a u16", [0x80, 0x80, 0x04]),
        case("u16", "a number without its last byte", [0x80]),
        case("u32", "4294967296 in a u32", [0x80, 0x80, 0x80, 0x80, 0x10]),
        case("u32", "six bytes", [0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        case("u64", "2 to the 64", [[0x80; 9].as_slice(), &[0x02]].concat()),
        case("u64", "one in ten bytes", [[0x81].as_slice(), &[0x80; 8], &[0x00]].concat()),
        case("u64", "eleven bytes", [[0x80; 10].as_slice(), &[0x01]].concat()),
        case("bool", "two is no bool", [2]),
        case("option of u16", "two is no option", [2, 0]),
        case("option of u16", "some of nothing", [1]),
        case(list, "a list of five", [5, 1, 2, 3, 4, 5]),
        case(list, "a count without values", [3, 1, 2]),
        case(list, "four billion values", [0xff, 0xff, 0xff, 0xff, 0x0f]),
        case(list, "a count in two bytes", [0x82, 0x00, 1, 2]),
        case("bytes, at most 4", "five bytes", [5, 1, 2, 3, 4, 5]),
        case("bytes, at most 4", "bytes cut short", [4, 1, 2, 3]),
        case("bytes, at most 4", "a length of 2 to the 63", [[0x80; 9].as_slice(), &[0x01]].concat()),
        case("text, at most 4", "text that is no UTF-8", [2, 0xc3, 0x28]),
        case("text, at most 4", "text of five bytes", "\u{5}abcde"),
        case("path", "a path that leaves", b"\x05../ab"),
        case("path", "a path in lanyard's own directory", b"\x08.lanyard"),
        case("level", "a level that is not there", [4]),
        case("level", "a level in two bytes", [0x83, 0x00]),
        case("role", "a role that is not there", [2]),
        case("u64", "more bytes than the reader asked for", [1; 65]),
    ]
}

pub(crate) fn read_envelope(_: &str, bytes: &[u8]) -> Result<String, String> {
    let show = |e: Envelope<'_>| {
        let critical = if e.critical { "critical" } else { "not critical" };
        format!("kind {:#06x}, {critical}, body {}", e.kind, data_encoding::HEXLOWER.encode(e.body))
    };
    Envelope::open(bytes).map(show).map_err(|e: DecodeError| e.to_string())
}

pub(crate) fn envelopes() -> Vec<Case> {
    const AS: &str = "envelope";
    vec![
        case(AS, "a ping", Envelope::seal(kind::PING, true, &[7])),
        case(AS, "an empty body, not critical", Envelope::seal(kind::ADDRESSES, false, &[])),
        case(AS, "a kind that nobody gave yet", Envelope::seal(0xffff, false, b"?")),
        case(AS, "nothing", []),
        case(AS, "a header cut short", [3, 2, 1, 0, 0, 0]),
        case(AS, "a body cut short", [3, 2, 1, 0, 0, 0, 2, 7]),
        case(AS, "a byte after the body", [3, 2, 1, 0, 0, 0, 1, 7, 0]),
        case(AS, "four gigabytes announced", [3, 2, 1, 0xff, 0xff, 0xff, 0xff, 7]),
        case(AS, "a length in the other byte order", [3, 2, 1, 1, 0, 0, 0, 7]),
        case(AS, "an unknown flag", [3, 2, 2, 0, 0, 0, 1, 7]),
        case(AS, "critical and an unknown flag", [3, 2, 0x81, 0, 0, 0, 1, 7]),
    ]
}
