//! What a node announces on the local network: the texts of its DNS-SD record, and nothing that names it.
//!
//! Page: `docs/spec/discovery.md`. A member announces `v=1` and `t=`, its tag under the discovery key. While an
//! invitation is open a second, separate instance announces `v=1`, `i=` its number and `o=` the office's name.
//! Format of the record: RFC 6763 section 6.

use data_encoding::BASE32_NOPAD;
use unicode_normalization::UnicodeNormalization;

/// The service type.
pub const SERVICE: &str = "_lanyard._tcp.local.";
/// The service type under which an office's coordinator is found.
pub const OFFICE_SERVICE: &str = "_lanyard-office._tcp.local.";
/// Longest name of an instance: one DNS label, RFC 1035 section 2.3.4.
pub const INSTANCE_BYTES_MAX: usize = 63;
/// Longest office name in an announcement: one text with its key has at most 255 bytes, RFC 6763 section 6.1.
pub const OFFICE_BYTES_MAX: usize = 200;
/// Most texts of one record that are looked at. A later version may have more than the three of today.
const TEXTS_MAX: usize = 16;
/// The version that this node speaks.
const VERSION: &str = "1";

/// The label of an office's host name: letters without accents, digits and dashes (RFC 952), a number from the second on.
pub fn host_label(office: &str, number: u32) -> String {
    // Room for the number.
    const BYTES_MAX: usize = INSTANCE_BYTES_MAX - 11;
    let mut label = String::new();
    for c in office.nfkd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)) {
        if c.is_ascii_alphanumeric() {
            label.push(c.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
        if label.len() >= BYTES_MAX {
            break;
        }
    }
    let label = label.trim_end_matches('-');
    let label = if label.is_empty() { "office" } else { label };
    if number > 1 { format!("{label}-{number}") } else { label.to_string() }
}

/// The name of an office's service instance: as people wrote it, cut to one label.
pub fn office_instance(office: &str, number: u32) -> String {
    let clean: String = office.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let mut end = clean.len().min(INSTANCE_BYTES_MAX - 11);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    let name = if end == 0 { "office" } else { &clean[..end] };
    if number > 1 { format!("{name} ({number})") } else { name.to_string() }
}

/// An open invitation as it is announced.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Invitation {
    /// The first part of the code.
    pub number: u16,
    /// The office's name, at most `OFFICE_BYTES_MAX` bytes, without control characters.
    pub office: String,
}

/// What one instance announces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// A member of a mesh whose discovery key gives this tag.
    Member([u8; 16]),
    /// An open invitation.
    Invitation(Invitation),
}

impl Invitation {
    /// An invitation as it can be announced: the name cut to size, control characters replaced.
    pub fn new(number: u16, office: &str) -> Self {
        let clean: String = office.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let mut end = clean.len().min(OFFICE_BYTES_MAX);
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        Self { number, office: clean[..end].to_string() }
    }
}

impl Announcement {
    /// The texts of the record: key and value.
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        let version = ("v", VERSION.to_string());
        match self {
            Self::Member(tag) => vec![version, ("t", BASE32_NOPAD.encode(tag).to_ascii_lowercase())],
            Self::Invitation(invitation) => {
                vec![version, ("i", invitation.number.to_string()), ("o", invitation.office.clone())]
            }
        }
    }

    /// Reads the texts of a record. `None` for anything that this version does not announce itself: whoever wrote it
    /// is a stranger or speaks a later version only.
    pub fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Option<Self> {
        let (mut version, mut tag, mut number, mut office) = (None, None, None, None);
        for (key, value) in texts.into_iter().take(TEXTS_MAX) {
            let slot = match key {
                "v" => &mut version,
                "t" => &mut tag,
                "i" => &mut number,
                "o" => &mut office,
                _ => continue,
            };
            // Of keys that come twice the first counts: RFC 6763 section 6.4.
            let value = value.unwrap_or_default();
            slot.get_or_insert(value);
        }
        if version != Some(VERSION.as_bytes()) {
            return None;
        }
        match (tag, number) {
            (Some(tag), None) => {
                let bytes = BASE32_NOPAD.decode(&tag.to_ascii_uppercase()).ok()?;
                Some(Self::Member(bytes.try_into().ok()?))
            }
            (None, Some(number)) => {
                let digits = std::str::from_utf8(number).ok()?;
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                let number = digits.parse().ok().filter(|_| plain)?;
                let office = office.unwrap_or_default();
                let name = std::str::from_utf8(office).ok().filter(|name| name.len() <= OFFICE_BYTES_MAX)?;
                Some(Self::Invitation(Invitation::new(number, name)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_office_has_a_host_name_whatever_it_is_called() {
        for (office, label) in [
            ("Office", "office"),
            ("Büro Müller & Söhne", "buro-muller-sohne"),
            ("  --  ", "office"),
            ("事務所", "office"),
            ("a.local", "a-local"),
            ("2nd floor!", "2nd-floor"),
        ] {
            assert_eq!(host_label(office, 1), label, "{office}");
        }
        assert_eq!(host_label("Office", 2), "office-2");
        for office in ["x".repeat(255), "é".repeat(120), "x-".repeat(120)] {
            assert!(host_label(&office, u32::MAX).len() <= INSTANCE_BYTES_MAX);
            assert!(office_instance(&office, 999_999).len() <= INSTANCE_BYTES_MAX);
        }
        assert_eq!(office_instance("Büro\n", 2), "Büro\u{fffd} (2)");
    }

    fn parse(texts: &[(&str, &[u8])]) -> Option<Announcement> {
        Announcement::parse(texts.iter().map(|(key, value)| (*key, Some(*value))))
    }

    #[test]
    fn what_is_announced_is_read_back() {
        let member = Announcement::Member([7; 16]);
        let invitation = Announcement::Invitation(Invitation::new(4, "Müller & Söhne"));
        for announcement in [member, invitation] {
            let texts = announcement.texts();
            let borrowed: Vec<_> = texts.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
            assert_eq!(parse(&borrowed), Some(announcement));
        }
    }

    #[test]
    fn a_member_announces_its_version_and_its_tag_only() {
        let keys: Vec<_> = Announcement::Member([7; 16]).texts().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["v", "t"]);
    }

    #[test]
    fn everything_else_is_ignored() {
        let tag = b"aeaqcaibaeaqcaibaeaqcaibae";
        assert!(parse(&[("v", b"1"), ("t", tag)]).is_some());
        assert_eq!(parse(&[("t", tag)]), None);
        assert_eq!(parse(&[("v", b"2"), ("t", tag)]), None);
        assert_eq!(parse(&[("v", b"1")]), None);
        assert_eq!(parse(&[("v", b"1"), ("t", b"")]), None);
        assert_eq!(parse(&[("v", b"1"), ("t", &tag[..20])]), None);
        assert_eq!(parse(&[("v", b"1"), ("t", b"1111111111111111111111111")]), None);
        assert_eq!(parse(&[("v", b"1"), ("t", tag), ("i", b"4")]), None);
        for number in [&b"65536"[..], b"-1", b"+1", b" 1", b"", b"x", b"\xff"] {
            assert_eq!(parse(&[("v", b"1"), ("i", number)]), None);
        }
        assert_eq!(parse(&[("v", b"1"), ("i", b"4"), ("o", b"\xff\xfe")]), None);
        assert_eq!(parse(&[("v", b"1"), ("i", b"4"), ("o", &[b'a'; OFFICE_BYTES_MAX + 1])]), None);
        assert_eq!(Announcement::parse([("v", Some(&b"1"[..])), ("t", None)]), None);
        let endless = std::iter::repeat_with(|| ("x", None));
        assert_eq!(Announcement::parse(endless), None);
    }

    #[test]
    fn a_name_is_cut_between_letters_and_keeps_no_control_characters() {
        let long = Invitation::new(1, &"ü".repeat(150));
        assert_eq!(long.office.len(), OFFICE_BYTES_MAX);
        assert_eq!(Invitation::new(1, "a\u{1b}[31mb\n").office, "a\u{fffd}[31mb\u{fffd}");
    }
}
