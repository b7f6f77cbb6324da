//! Text forms that people and files carry from the inviting machine to the new one: the code and the ticket.
//!
//! Page: `docs/spec/pairing.md`. A code is a number and two words of the 2,048-word English list of BIP-39, whose
//! words differ in their first four letters: `4-harvest-violin`. A ticket carries 32 random bytes instead and is
//! for machines that nobody sits at. Typing errors are found here, before anything is dialled: a wrong guess would
//! cost the invitation.

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError, List, Text};
use super::statement::Name;

/// Highest number of a code; tickets have higher ones.
pub const CODE_NUMBER_MAX: u16 = 99;
/// Longest ticket, in bytes of text. Sixteen addresses and a name fit twice.
pub const TICKET_BYTES_MAX: usize = 4096;

/// What every ticket of this version starts with.
const TICKET_MARK: &str = "lanyard-ticket-";
const TICKET_VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Longest word that is looked at; the longest of the list has 8 letters.
const WORD_BYTES_MAX: usize = 32;

/// A pairing code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    number: u16,
    words: [u16; 2],
}

/// Why a text is no pairing code. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not a number and two words.
    #[error("a pairing code is a number and two words, like 4-harvest-violin")]
    Shape,
    /// The number is out of range.
    #[error("the number of a pairing code is 1 to 99, this is '{0}'")]
    Number(String),
    /// A word that the list does not have.
    #[error("'{word}' is no word of a pairing code{}", near(.candidates))]
    Word {
        /// What was typed.
        word: String,
        /// What may have been meant, nearest first.
        candidates: Vec<&'static str>,
    },
}

fn near(candidates: &[&str]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; perhaps {}?", candidates.join(" or ")) }
}

impl Code {
    /// The code with this number whose words random bytes choose; `None` if the number is out of range.
    pub fn from_seed(number: u16, seed: &[u8; 32]) -> Option<Self> {
        // 2,048 words divide 65,536 evenly, so every word is as likely as any other.
        let word = |at: usize| u16::from_be_bytes([seed[at], seed[at + 1]]) % 2048;
        (1..=CODE_NUMBER_MAX).contains(&number).then(|| Self { number, words: [word(0), word(2)] })
    }

    /// The number, which the new machine says in the open.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The secret that the words stand for.
    pub fn secret(&self) -> [u8; 32] {
        blake3::derive_key("lanyard 1 pairing code", self.to_string().as_bytes())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two] = self.words.map(|at| Language::English.word_list()[usize::from(at)]);
        write!(f, "{}-{one}-{two}", self.number)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}-secret)", self.number)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Forgives case, blanks for dashes, and words cut to a prefix that only one word has.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let mut parts = text.split(|c: char| c == '-' || c.is_whitespace()).filter(|part| !part.is_empty());
        let (Some(number), Some(one), Some(two), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CodeError::Shape);
        };
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CodeError::Shape);
        }
        let typed = number;
        let number = typed.parse().ok().filter(|number| (1..=CODE_NUMBER_MAX).contains(number));
        let number = number.ok_or_else(|| CodeError::Number(typed.chars().take(8).collect()))?;
        Ok(Self { number, words: [word(one)?, word(two)?] })
    }
}

fn word(typed: &str) -> Result<u16, CodeError> {
    let lower = typed.to_lowercase();
    if let Some(at) = Language::English.find_word(&lower) {
        return Ok(at);
    }
    let mut fits = Language::English.words_by_prefix_iter(&lower);
    if let (Some(only), None) = (fits.next(), fits.next())
        && let Some(at) = Language::English.find_word(only)
    {
        return Ok(at);
    }
    Err(CodeError::Word { word: typed.chars().take(WORD_BYTES_MAX).collect(), candidates: candidates(&lower) })
}

/// The three words nearest to what was typed, if any is within two changed letters.
fn candidates(typed: &str) -> Vec<&'static str> {
    if typed.len() > WORD_BYTES_MAX {
        return Vec::new();
    }
    let mut near: Vec<(usize, &'static str)> =
        Language::English.word_list().iter().map(|word| (distance(typed, word), *word)).collect();
    near.retain(|(distance, _)| *distance <= 2);
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, word)| word).collect()
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// An invitation as a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The invitation's number, above `CODE_NUMBER_MAX`.
    pub number: u16,
    /// The secret.
    pub secret: [u8; 32],
    /// Where the inviter can be reached: `address:port`.
    pub addresses: List<Text<64>, 16>,
    /// The office's name, for people.
    pub office: Name,
    /// When the invitation ends, milliseconds since 1970 UTC.
    pub expires_at_ms: u64,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, {:?}, secret)", self.number, self.office)
    }
}

/// Why a text is no usable ticket. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Something else altogether.
    #[error("this is no lanyard ticket: it does not start with 'lanyard-ticket-1'")]
    NotATicket,
    /// Of a later version.
    #[error("this ticket is of version {0}, which needs a newer version of lanyard")]
    Future(u32),
    /// Longer than any ticket.
    #[error("this ticket has more than {TICKET_BYTES_MAX} bytes")]
    TooLong,
    /// Letters were changed or lost.
    #[error("this ticket is damaged: its checksum does not fit")]
    Damaged,
    /// The checksum fits, the contents do not make sense.
    #[error("this ticket cannot be read")]
    Malformed(#[source] DecodeError),
    /// Its time is over.
    #[error("this ticket of '{office}' has expired; ask for a new one")]
    Expired {
        /// The office's name.
        office: String,
    },
}

impl Ticket {
    /// The text of the ticket: a mark with the version, then base32 in lines.
    pub fn to_text(&self) -> String {
        let mut bytes = codec::encode(self);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let letters = BASE32_NOPAD.encode(&bytes).to_lowercase();
        let mut text = format!("{TICKET_MARK}{TICKET_VERSION}\n");
        for at in (0..letters.len()).step_by(64) {
            text.push_str(&letters[at..(at + 64).min(letters.len())]);
            text.push('\n');
        }
        text
    }

    /// Reads a ticket that is still good at `now_ms`. Line ends and blanks do not matter.
    pub fn from_text(text: &str, now_ms: u64) -> Result<Self, TicketError> {
        if text.len() > TICKET_BYTES_MAX {
            return Err(TicketError::TooLong);
        }
        let rest = text.trim_start().strip_prefix(TICKET_MARK).ok_or(TicketError::NotATicket)?;
        let (version, letters) = rest.split_once(char::is_whitespace).ok_or(TicketError::Damaged)?;
        match version.parse() {
            Ok(TICKET_VERSION) => {}
            Ok(version) if version > TICKET_VERSION => return Err(TicketError::Future(version)),
            _ => return Err(TicketError::NotATicket),
        }
        let letters: String = letters.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| TicketError::Damaged)?;
        let (body, sum) = bytes.split_at_checked(bytes.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default();
        if sum != checksum(body) {
            return Err(TicketError::Damaged);
        }
        let ticket: Self = codec::decode("ticket", body, TICKET_BYTES_MAX).map_err(TicketError::Malformed)?;
        if ticket.expires_at_ms <= now_ms {
            return Err(TicketError::Expired { office: ticket.office.to_string() });
        }
        Ok(ticket)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::derive_key("lanyard 1 ticket checksum", body);
    hash[..CHECKSUM_BYTES].try_into().expect("8 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Result<String, CodeError> {
        Code::from_str(text).map(|code| code.to_string())
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        for typed in ["4-harvest-violin", " 4 Harvest VIOLIN ", "4-harv-viol", "04 - harvest - violi"] {
            assert_eq!(code(typed).as_deref(), Ok("4-harvest-violin"), "{typed}");
        }
    }

    #[test]
    fn the_secret_of_a_code_never_changes() {
        let secret = Code::from_str("4-harvest-violin").map(|code| code.secret()).expect("a code");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&secret),
            "3041b7ae75848588ec75e5abc791245df7105ca61d5e8ea03f47451224ea76a1"
        );
    }

    #[test]
    fn a_word_that_does_not_exist_is_named_with_its_neighbours() {
        let error = code("4-harvset-violin").expect_err("mistyped");
        assert_eq!(error, CodeError::Word { word: "harvset".into(), candidates: vec!["harvest"] });
        assert_eq!(error.to_string(), "'harvset' is no word of a pairing code; perhaps harvest?");
        assert!(matches!(code("4-har-violin"), Err(CodeError::Word { .. })), "three letters fit several words");
        assert!(matches!(code("4-violin-qqqqqqqq"), Err(CodeError::Word { candidates, .. }) if candidates.is_empty()));
    }

    #[test]
    fn what_has_another_shape_is_no_code() {
        for bad in ["", "harvest-violin", "4-harvest", "4-harvest-violin-violin", "x-harvest-violin", "-4 violin"] {
            assert_eq!(code(bad), Err(CodeError::Shape), "{bad:?}");
        }
        for bad in ["0-harvest-violin", "100-harvest-violin", "99999999999-harvest-violin"] {
            assert!(matches!(code(bad), Err(CodeError::Number(_))), "{bad:?}");
        }
        assert!(code(&format!("4-{}-violin", "ä".repeat(5000))).is_err());
    }

    #[test]
    fn every_seed_makes_a_code_that_can_be_read_back() {
        for n in 0..=255_u8 {
            let seed = blake3::hash(&[n]);
            let code = Code::from_seed(u16::from(n % 99) + 1, seed.as_bytes()).expect("in range");
            assert_eq!(Code::from_str(&code.to_string()), Ok(code));
        }
        assert_eq!(Code::from_seed(0, &[0; 32]), None);
        assert_eq!(Code::from_seed(100, &[0; 32]), None);
    }

    fn ticket() -> Ticket {
        Ticket {
            number: 1000,
            secret: [7; 32],
            addresses: List::new(vec![Text::new("10.0.0.2:47474").expect("short")]).expect("one"),
            office: Name::new("Office").expect("short"),
            expires_at_ms: 1000,
        }
    }

    #[test]
    fn a_ticket_survives_its_text_form_and_other_line_ends() {
        let text = ticket().to_text();
        assert_eq!(Ticket::from_text(&text, 999), Ok(ticket()));
        assert_eq!(
            Ticket::from_text(
                &text.replace('\n', "\r\n  ").to_uppercase().replace("LANYARD-TICKET", "lanyard-ticket"),
                0
            ),
            Ok(ticket())
        );
    }

    #[test]
    fn a_damaged_future_or_expired_ticket_is_refused_by_name() {
        let text = ticket().to_text();
        assert_eq!(Ticket::from_text(&text, 1000), Err(TicketError::Expired { office: "Office".into() }));
        assert_eq!(Ticket::from_text(&text.replacen("-1\n", "-2\n", 1), 0), Err(TicketError::Future(2)));
        assert_eq!(Ticket::from_text("4-harvest-violin", 0), Err(TicketError::NotATicket));
        assert_eq!(Ticket::from_text("lanyard-ticket-0 aaaa", 0), Err(TicketError::NotATicket));
        assert_eq!(Ticket::from_text("lanyard-ticket-1 ", 0), Err(TicketError::Damaged));
        assert_eq!(Ticket::from_text(&"lanyard-ticket-1 ".repeat(1000), 0), Err(TicketError::TooLong));
        for at in text.find('\n').expect("a line")..text.len() {
            let mut typed = text.clone().into_bytes();
            if typed[at].is_ascii_whitespace() {
                continue;
            }
            typed[at] = if typed[at] == b'a' { b'b' } else { b'a' };
            let typed = String::from_utf8(typed).expect("ascii");
            assert_eq!(Ticket::from_text(&typed, 0), Err(TicketError::Damaged), "letter {at}");
        }
    }
}
