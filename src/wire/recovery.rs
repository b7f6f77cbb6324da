//! The recovery key on paper: 24 words, with a checksum.
//!
//! Page: `docs/spec/policy.md`. It is the seed of the key whose public half the founding statement names. Words are copied
//! by hand with fewer errors than letters, and a wrong one is found before anything is signed.
//! Source: BIP 39, the English list, for 256 bits.

use bip39::{Language, Mnemonic};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::base::NodeId;

/// Words of a recovery key.
const WORDS: usize = 24;

/// A recovery key.
pub struct RecoveryKey(Zeroizing<[u8; 32]>);

/// Why a text is no recovery key. Nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// It has the wrong number of words.
    #[error("a recovery key has 24 words, this has {0}")]
    Length(usize),
    /// A word that is none of the list; counted from 1.
    #[error("word {0} is none that a recovery key can have")]
    Word(usize),
    /// A word was taken for another, or two changed places.
    #[error("the recovery key has an error: its checksum does not fit")]
    Checksum,
}

impl RecoveryKey {
    /// The key that this seed makes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// Reads what `to_text` writes, forgiving case, line ends, and blanks and commas between words.
    pub fn from_text(text: &str) -> Result<Self, RecoveryKeyError> {
        let lower = Zeroizing::new(text.to_lowercase());
        let is_between = |c: char| c.is_whitespace() || c == ',';
        let words: Vec<&str> = lower.split(is_between).filter(|word| !word.is_empty()).collect();
        if words.len() != WORDS {
            return Err(RecoveryKeyError::Length(words.len()));
        }
        let list = Language::English;
        if let Some(at) = words.iter().position(|word| list.find_word(word).is_none()) {
            return Err(RecoveryKeyError::Word(at + 1));
        }
        let joined = Zeroizing::new(words.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(list, &joined).map_err(|_| RecoveryKeyError::Checksum)?;
        let (bytes, length) = mnemonic.to_entropy_array();
        let seed = bytes[..length].try_into().map_err(|_| RecoveryKeyError::Length(words.len()))?;
        Ok(Self::from_seed(seed))
    }

    /// The form for paper: words separated by blanks.
    pub fn to_text(&self) -> String {
        Mnemonic::from_entropy_in(Language::English, &*self.0).expect("32 bytes make 24 words").to_string()
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
        assert_eq!(text.split(' ').count(), WORDS);
        let typed = [text.clone(), text.to_uppercase(), text.replace(' ', ",\n"), format!("  {text} \n")];
        for typed in typed {
            assert_eq!(RecoveryKey::from_text(&typed).expect("the key").id(), key.id(), "{typed}");
        }
    }

    #[test]
    fn a_key_has_the_words_of_bip_39() {
        // Test vector of BIP 39 for 32 bytes 0x7f.
        let text = RecoveryKey::from_seed([0x7f; 32]).to_text();
        let words = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth \
                     useful legal winner thank year wave sausage worth title";
        assert_eq!(text, words);
    }

    #[test]
    fn what_is_mistyped_is_said_to_be() {
        let text = RecoveryKey::from_seed([0x7f; 32]).to_text();
        let error = |text: &str| RecoveryKey::from_text(text).expect_err("mistyped");
        assert_eq!(error("harvest violin"), RecoveryKeyError::Length(2));
        assert_eq!(error(&text.replacen("winner", "winer", 1)), RecoveryKeyError::Word(2));
        assert_eq!(error(&text.replacen("winner", "window", 1)), RecoveryKeyError::Checksum);
    }
}
