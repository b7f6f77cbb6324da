//! The recovery key on paper: 56 letters and digits in seven groups of eight, with a checksum.
//!
//! Page: `docs/spec/policy.md`. It is the seed of the key whose public half the founding statement names. The form is
//! that of a node id, which people copy by hand already: a mistyped letter is found before anything is signed.

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::base::NodeId;
use crate::base::id::NodeIdError;

/// A recovery key.
pub struct RecoveryKey(Zeroizing<[u8; 32]>);

/// Why a text is no recovery key. Nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// The text has the wrong number of letters.
    #[error("a recovery key has 56 letters and digits, this has {0}")]
    Length(usize),
    /// A letter that it cannot have.
    #[error("a recovery key has only the letters a-z and the digits 2-7: no 0, 1, 8 or 9")]
    Letter,
    /// A letter was mistyped.
    #[error("the recovery key has a typing error: its checksum does not fit")]
    Checksum,
}

impl RecoveryKey {
    /// The key that this seed makes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// Reads what `to_text` writes, forgiving case, blanks, line ends and dashes.
    pub fn from_text(text: &str) -> Result<Self, RecoveryKeyError> {
        let letters = Zeroizing::new(text.split_whitespace().collect::<String>());
        match NodeId::from_text(&letters) {
            Ok(seed) => Ok(Self::from_seed(seed.0)),
            Err(NodeIdError::Length(count)) => Err(RecoveryKeyError::Length(count)),
            Err(NodeIdError::Letter) => Err(RecoveryKeyError::Letter),
            Err(NodeIdError::Checksum) => Err(RecoveryKeyError::Checksum),
        }
    }

    /// The form for paper.
    pub fn to_text(&self) -> String {
        NodeId(*self.0).to_text()
    }

    /// The key to sign with.
    pub fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }

    /// Its public half, which the founding statement names.
    pub fn id(&self) -> NodeId {
        NodeId(self.key().verifying_key().to_bytes())
    }
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_people_write_it_down() {
        let key = RecoveryKey::from_seed([7; 32]);
        let text = key.to_text();
        for typed in
            [text.clone(), text.to_uppercase(), text.replace('-', " "), format!(" {} \n", text.replace('-', "\n"))]
        {
            assert_eq!(RecoveryKey::from_text(&typed).expect("the key").id(), key.id(), "{typed}");
        }
    }

    #[test]
    fn what_is_mistyped_is_said_to_be() {
        let text = RecoveryKey::from_seed([7; 32]).to_text();
        let error = |text: &str| RecoveryKey::from_text(text).expect_err("mistyped");
        assert_eq!(error(&text[1..]), RecoveryKeyError::Length(55));
        assert_eq!(error("harvest violin"), RecoveryKeyError::Length(13));
        assert_eq!(error(&format!("0{}", &text[1..])), RecoveryKeyError::Letter);
        let other = if text.starts_with('a') { "b" } else { "a" };
        assert_eq!(error(&format!("{other}{}", &text[1..])), RecoveryKeyError::Checksum);
    }
}
