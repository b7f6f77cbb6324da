//! Paths inside a folder: `/`-separated bytes, checked once, so that no later step can leave the folder.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_normalization::UnicodeNormalization;

/// Longest path, in bytes. Source: Linux `PATH_MAX` (4096) less the ending NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest component, in bytes. Source: Linux `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;
/// Deepest path, in components. A guess: twice the deepest trees that build tools leave; bounds recursion.
pub const DEPTH_MAX: usize = 512;
/// The directory in a folder's root that belongs to lanyard itself; no peer may name a path in it.
pub const RESERVED: &[u8] = b".lanyard";
/// The file in a folder's root that says which of its names are not shared.
pub const IGNORE_FILE: &str = ".lanyardignore";

/// A path relative to a folder's root. The empty path is the root itself.
///
/// Every value is confined: no empty, `.` or `..` component, no NUL, not in `.lanyard`, within the bounds.
/// The order is that of a depth-first walk: a directory, then all below it, then its next sibling.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Why bytes are not a relative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than `PATH_BYTES_MAX`.
    #[error("the path is longer than 4095 bytes")]
    TooLong,
    /// A component longer than `NAME_BYTES_MAX`.
    #[error("a name in the path is longer than 255 bytes")]
    NameTooLong,
    /// More than `DEPTH_MAX` components.
    #[error("the path is more than 512 directories deep")]
    TooDeep,
    /// An empty, `.` or `..` component, a leading or trailing `/`, or a NUL byte.
    #[error("the path has an empty name, '.', '..' or a NUL byte in it")]
    Unsafe,
    /// Inside `.lanyard`.
    #[error("'.lanyard' in the root of a folder belongs to lanyard itself")]
    Reserved,
}

impl RelPath {
    /// The folder's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks and takes `bytes`.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        for (depth, name) in bytes.split(|b| *b == b'/').enumerate() {
            if depth == DEPTH_MAX {
                return Err(PathError::TooDeep);
            }
            check_name(name)?;
            if depth == 0 && is_reserved(name) {
                return Err(PathError::Reserved);
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The path one component below this one.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let name = name.as_ref();
        if name.contains(&b'/') {
            return Err(PathError::Unsafe);
        }
        check_name(name)?;
        let mut bytes = self.0.to_vec();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The bytes, `/`-separated.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the folder's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.0.rsplit(|b| *b == b'/').next().filter(|name| !name.is_empty())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].into()))
    }

    /// All directories above this path, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent).filter(|p| !p.is_root())
    }

    /// Whether `self` is `prefix` or lies below it, by component.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        prefix.is_root()
            || (self.0.starts_with(&prefix.0) && (self.0.len() == prefix.0.len() || self.0[prefix.0.len()] == b'/'))
    }

    /// The path as an index key: `/` becomes NUL, so that byte order is the order of a depth-first walk.
    pub fn to_key(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
    }

    /// Reads what `to_key` writes.
    pub fn from_key(key: &[u8]) -> Result<Self, PathError> {
        Self::new(key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect::<Vec<u8>>())
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
        return Err(PathError::Unsafe);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(PathError::NameTooLong);
    }
    Ok(())
}

/// Whether a name in a folder's root belongs to lanyard, on case-insensitive file systems too.
pub fn is_reserved(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(RESERVED)
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    /// UTF-8 as it is; other bytes and control characters as `\xNN`, and `\` as `\\`, so that two paths never look alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Appends a name in the form in which twins are equal: in NFC and without letter case.
///
/// Case goes up and down again, so that letters without a single lower-case partner (`ß`, `ẞ`, `SS`) fold alike.
pub fn fold(name: &[u8], key: &mut Vec<u8>) {
    match std::str::from_utf8(name) {
        Ok(name) if name.is_ascii() => key.extend(name.bytes().map(|b| b.to_ascii_lowercase())),
        Ok(name) => {
            let upper: String = name.nfc().flat_map(char::to_uppercase).collect();
            let lower: String = upper.chars().flat_map(char::to_lowercase).nfc().collect();
            key.extend_from_slice(lower.as_bytes());
        }
        Err(_) => key.extend(name.iter().map(u8::to_ascii_lowercase)),
    }
}

/// Bytes of a name as text: the escaped form that JSON and messages show.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    for b in c.encode_utf8(&mut utf8).bytes() {
                        text.push_str(&format!("\\x{b:02x}"));
                    }
                }
                c => text.push(c),
            }
        }
        for b in piece.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

/// Reads the escaped form; `None` where a `\` starts no known escape.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        if *b != b'\\' {
            bytes.push(*b);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            // The guard: `from_str_radix` alone would take a sign for a digit.
            [b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RelPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a relative path")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RelPath, E> {
                RelPath::new(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_the_folder_is_no_path() {
        for bad in ["/", "/etc", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", ".lanyard", ".LANYARD/tmp"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(RelPath::new([b'a'; 256]), Err(PathError::NameTooLong));
        assert_eq!(RelPath::new(vec!["a"; 513].join("/")), Err(PathError::TooDeep));
        assert!(RelPath::new("a/.lanyard").is_ok());
        assert!(RelPath::new(b"caf\xe9").is_ok());
    }

    #[test]
    fn order_is_that_of_a_depth_first_walk() {
        let mut paths: Vec<RelPath> =
            ["a.b", "a/z", "a", "a/b/c", "a-"].iter().map(|p| RelPath::new(p).expect("valid")).collect();
        paths.sort();
        let text: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["a", "a/b/c", "a/z", "a-", "a.b"]);
        let mut keys: Vec<Vec<u8>> = paths.iter().map(RelPath::to_key).collect();
        keys.sort();
        let back: Vec<RelPath> = keys.iter().map(|k| RelPath::from_key(k).expect("valid")).collect();
        assert_eq!(back, paths);
    }

    #[test]
    fn prefixes_match_by_component() {
        let path = RelPath::new("books/2026").expect("valid");
        assert!(path.starts_with(&RelPath::new("books").expect("valid")));
        assert!(!path.starts_with(&RelPath::new("book").expect("valid")));
        assert!(path.starts_with(&RelPath::root()));
    }

    #[test]
    fn escaping_is_reversible() {
        for name in [&b"plain"[..], b"caf\xe9", b"back\\slash", b"\x01\xff\n", "grün".as_bytes()] {
            assert_eq!(unescape(&escape(name)).as_deref(), Some(name));
        }
        for bad in ["\\q", "\\x+f", "\\x4", "\\"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
