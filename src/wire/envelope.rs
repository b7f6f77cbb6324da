//! The envelope of everything signed or sent: kind, flags, length, body.
//!
//! Page: `docs/spec/formats/encoding.md`. Layout, big-endian: kind `u16`, flags `u8`, length `u32`, body.

use super::codec::DecodeError;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 7;

/// Flag: who does not know this kind must not go on as if it were not there.
pub const CRITICAL: u8 = 1;

/// What an envelope holds. A number is never given to a second meaning.
pub mod kind {
    /// Statement: the mesh is founded.
    pub const FOUND: u16 = 0x0101;
    /// Statement: a node becomes a member.
    pub const ADMIT: u16 = 0x0102;
    /// Statement: a node's membership ends.
    pub const EXPEL: u16 = 0x0103;
    /// Statement: a node's role changes.
    pub const SET_ROLE: u16 = 0x0104;
    /// Statement: a node, folder or the mesh gets a name.
    pub const RENAME: u16 = 0x0105;
    /// Statement: a named set of nodes.
    pub const GROUP: u16 = 0x0106;
    /// Statement: a folder exists.
    pub const CREATE_FOLDER: u16 = 0x0107;
    /// Statement: a subject has a level.
    pub const GRANT: u16 = 0x0108;
    /// Statement: a grant is withdrawn.
    pub const REVOKE: u16 = 0x0109;
    /// Statement: a folder is shared no more.
    pub const RETIRE_FOLDER: u16 = 0x010a;
    /// Statement: a node may be coordinator.
    pub const ELIGIBLE: u16 = 0x010b;
    /// Statement: access for a person without a node.
    pub const PASS: u16 = 0x010c;
    /// Statement: entries above a freeze are kept.
    pub const VOUCH: u16 = 0x010d;
    /// Statement: only what lies below these frontiers counts.
    pub const SEAL: u16 = 0x010e;
    /// Statement: what the mass-change guard held is released or rejected.
    pub const VERDICT: u16 = 0x010f;
    /// Statement: a writer signed two histories; proves itself.
    pub const FORK: u16 = 0x0110;
    /// Statement: a frozen writer goes on under a new incarnation.
    pub const REINSTATE: u16 = 0x0111;
    /// Statement: how many machines shall hold a folder.
    pub const COPIES: u16 = 0x0112;

    /// Header of a batch of entries.
    pub const BATCH: u16 = 0x0201;
    /// A writer's word that all at or below a number without a body is superseded.
    pub const COLLAPSE: u16 = 0x0202;

    /// First message each way on a new link.
    pub const HELLO: u16 = 0x0301;
    /// A sign of life that asks for one.
    pub const PING: u16 = 0x0302;
    /// The answer to a sign of life.
    pub const PONG: u16 = 0x0303;
    /// The link ends on purpose; says why.
    pub const BYE: u16 = 0x0304;
    /// What is spoken, said to one that speaks no version of it.
    pub const VERSIONS: u16 = 0x0305;
    /// Newest statements known.
    pub const STATEMENT_HEADS: u16 = 0x0310;
    /// Asks for statements by id.
    pub const STATEMENT_WANT: u16 = 0x0311;
    /// Signed statements.
    pub const STATEMENTS: u16 = 0x0312;
    /// The discovery key in use.
    pub const DISCOVERY_KEY: u16 = 0x0313;
    /// Where members were last reached.
    pub const ADDRESSES: u16 = 0x0314;
    /// What the sender's clock shows.
    pub const CLOCK: u16 = 0x0315;
    /// How far the sender's logs of one folder reach.
    pub const FRONTIERS: u16 = 0x0320;
    /// One batch with the entries and small contents the receiver may see.
    pub const BATCH_PUSH: u16 = 0x0321;
    /// Asks for entries that an earlier push left out.
    pub const ENTRY_WANT: u16 = 0x0322;
    /// The sender receives a folder, or no longer does.
    pub const SUBSCRIBE: u16 = 0x0324;
    /// How far the sender has put a folder's entries on its disk.
    pub const APPLIED: u16 = 0x0325;
    /// Asks for contents.
    pub const CONTENT_WANT: u16 = 0x0330;
    /// A piece of content, or why there is none.
    pub const CONTENT: u16 = 0x0331;
    /// Which chunks of a content the sender has that it is still fetching.
    pub const HAVE: u16 = 0x0332;

    /// A node's health, for those that may be coordinator.
    pub const REPORT: u16 = 0x0340;
    /// Asks for lines of an audit log.
    pub const AUDIT_WANT: u16 = 0x0341;
    /// Lines of an audit log.
    pub const AUDIT_LINES: u16 = 0x0342;

    /// A relay tells a member that another one wants to meet it there.
    pub const RELAY_CALL: u16 = 0x0350;

    /// Relay: asks to be joined with a member.
    pub const RELAY_ASK: u16 = 0x0501;
    /// Relay: comes to a meeting.
    pub const RELAY_MEET: u16 = 0x0502;
    /// Relay: the answer to either.
    pub const RELAY_ANSWER: u16 = 0x0503;

    /// Who claims to be coordinator, and what the sender hears of it.
    pub const HEARTBEAT: u16 = 0x0343;

    /// Pairing: the joiner's first message.
    pub const PAIR_START: u16 = 0x0401;
    /// Pairing: the inviter's answer.
    pub const PAIR_REPLY: u16 = 0x0402;
    /// Pairing: the joiner proves that it knows the code.
    pub const PAIR_CONFIRM: u16 = 0x0403;
    /// Pairing: the inviter proves the same and admits the joiner.
    pub const PAIR_ADMIT: u16 = 0x0404;
    /// Pairing: the joiner has stored its admission.
    pub const PAIR_DONE: u16 = 0x0405;
    /// Pairing: no.
    pub const PAIR_REFUSED: u16 = 0x0406;
}

/// A kind and its body, borrowed from the bytes that hold them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// One of `kind`, or a number that a later version gave.
    pub kind: u16,
    /// Whether who does not know the kind must stop.
    pub critical: bool,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Puts a body in its envelope.
    pub fn seal(kind: u16, critical: bool, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("every body is bounded far below 4 GiB");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.push(if critical { CRITICAL } else { 0 });
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Opens an envelope that fills `bytes`.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Malformed("envelope"));
        };
        let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
        if length != body.len() {
            return Err(DecodeError::Malformed("envelope"));
        }
        // Unknown flags are refused, not ignored: ignoring them would give one meaning two encodings.
        if header[2] & !CRITICAL != 0 {
            return Err(DecodeError::NotCanonical("envelope"));
        }
        Ok(Self { kind: u16::from_be_bytes([header[0], header[1]]), critical: header[2] == CRITICAL, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_length_or_an_unknown_flag_is_refused() {
        let good = Envelope::seal(kind::PING, false, b"abc");
        assert_eq!(Envelope::open(&good).map(|e| e.body), Ok(&b"abc"[..]));
        assert!(Envelope::open(&good[..good.len() - 1]).is_err());
        assert!(Envelope::open(&[good.as_slice(), b"x"].concat()).is_err());
        let mut flagged = good;
        flagged[2] = 2;
        assert_eq!(Envelope::open(&flagged), Err(DecodeError::NotCanonical("envelope")));
    }
}
