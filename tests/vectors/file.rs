//! How vectors are kept: text files of named cases, frozen once written.
//!
//! A case is four lines: `name`, `as` (what it is read as), `hex` (groups of hexadecimal, `BBxN` for N times the byte
//! BB) or `text`, and either `gives` or `refused`. `LANYARD_BLESS=1` writes the files anew; a change in them is a
//! change of the format, and wants its reason in the changelog.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lanyard::base::path::{escape, unescape};

/// One case as it is made here.
pub(crate) struct Case {
    name: String,
    read_as: String,
    bytes: Vec<u8>,
}

/// A case.
pub(crate) fn case(read_as: &str, name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name: name.into(), read_as: read_as.into(), bytes: bytes.into() }
}

/// What a reader makes of bytes: what they give, or why they are refused.
pub(crate) type Read = fn(read_as: &str, bytes: &[u8]) -> Result<String, String>;

/// Compares the frozen file with the reader, and with what the encoders write today.
pub(crate) fn check(file: &str, cases: &[Case], read: Read) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    if std::env::var_os("LANYARD_BLESS").is_some() {
        assert!(std::env::var_os("CI").is_none(), "vectors are written by a person who looks at them");
        std::fs::write(&path, write(cases, read)).expect("the file can be written");
    }
    let frozen = parse(&std::fs::read_to_string(&path).expect("the vectors are there"));
    let mut names = BTreeSet::new();
    let (mut accepts, mut rejects) = (0, 0);
    for (case, expected) in &frozen {
        assert!(names.insert(&case.name), "{file}: two cases are named '{}'", case.name);
        assert_eq!(&read(&case.read_as, &case.bytes), expected, "{file}: {}", case.name);
        match expected {
            Ok(_) => accepts += 1,
            Err(_) => rejects += 1,
        }
    }
    assert!(rejects > accepts, "{file}: {rejects} rejects are not more than {accepts} accepts");
    for case in cases {
        let kept = frozen.iter().find(|(kept, _)| kept.name == case.name);
        let kept = kept.unwrap_or_else(|| panic!("{file}: '{}' is not in the file", case.name));
        assert!(kept.0.bytes == case.bytes, "{file}: '{}' is encoded differently now", case.name);
    }
    assert_eq!(frozen.len(), cases.len(), "{file}: a case in the file is made no more");
}

/// The bytes of every case of a frozen file.
pub(crate) fn inputs(file: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    parse(&text).into_iter().map(|(case, _)| case.bytes).collect()
}

fn write(cases: &[Case], read: Read) -> String {
    let mut text = String::from("# Frozen. Layout: tests/vectors/file.rs; meaning: docs/spec.\n");
    for case in cases {
        text.push_str(&format!("\nname: {}\nas: {}\n", case.name, case.read_as));
        match std::str::from_utf8(&case.bytes) {
            Ok(_) if case.read_as.ends_with("text") => text.push_str(&format!("text: {}\n", escape(&case.bytes))),
            _ => text.push_str(&format!("hex: {}\n", to_hex(&case.bytes))),
        }
        match read(&case.read_as, &case.bytes) {
            Ok(gives) => text.push_str(&format!("gives: {gives}\n")),
            Err(refused) => text.push_str(&format!("refused: {refused}\n")),
        }
    }
    text
}

fn parse(text: &str) -> Vec<(Case, Result<String, String>)> {
    let mut cases = Vec::new();
    for block in text.split("\n\n") {
        let field = |key: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .map(|value| value.strip_prefix(' ').unwrap_or(value))
        };
        let Some(name) = field("name") else { continue };
        let bytes = match (field("hex"), field("text")) {
            (Some(hex), None) => from_hex(hex),
            (None, Some(text)) => unescape(text).expect("the text is escaped"),
            _ => panic!("'{name}' has either hex or text"),
        };
        let expected = match (field("gives"), field("refused")) {
            (Some(gives), None) => Ok(gives.to_string()),
            (None, Some(refused)) => Err(refused.to_string()),
            _ => panic!("'{name}' either gives or is refused"),
        };
        cases.push((case(field("as").expect("says what it is read as"), name, bytes), expected));
    }
    cases
}

/// Runs of one byte from this length on are written as `BBxN`.
const RUN: usize = 12;

fn to_hex(bytes: &[u8]) -> String {
    let mut groups: Vec<String> = Vec::new();
    let mut rest = bytes;
    let mut plain = String::new();
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|b| *b == first).count();
        if run >= RUN {
            groups.extend((!plain.is_empty()).then(|| std::mem::take(&mut plain)));
            groups.push(format!("{first:02x}x{run}"));
        } else {
            for _ in 0..run {
                plain.push_str(&format!("{first:02x}"));
            }
        }
        rest = &rest[run..];
    }
    groups.extend((!plain.is_empty()).then_some(plain));
    groups.join(" ")
}

fn from_hex(text: &str) -> Vec<u8> {
    let decode = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    let group = |group: &str| match group.split_once('x') {
        Some((byte, times)) => decode(byte).repeat(times.parse().expect("a number of times")),
        None => decode(group),
    };
    text.split_whitespace().flat_map(group).collect()
}
