//! Canonical postcard: one value has one encoding, and every count has a bound that its type names.
//!
//! Page: `docs/spec/formats/encoding.md`. postcard accepts over-long numbers, bytes after the value and doubled map
//! keys; `decode` refuses all of them by encoding again and comparing.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, DeserializeOwned, SeqAccess};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why bytes are not a value. Nothing was taken from them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than this kind of value may have.
    #[error("{what} has {bytes} bytes, more than the {max} allowed")]
    TooLong {
        /// What was decoded.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// Not the encoding of such a value, or a bound inside it is exceeded.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The encoding of a value, but not the one canonical encoding.
    #[error("{0} is not in its canonical encoding")]
    NotCanonical(&'static str),
    /// An envelope kind that this version does not know.
    #[error("unknown kind {0:#06x}")]
    UnknownKind(u16),
    /// The signature does not fit the bytes and the signer.
    #[error("the signature of {0} does not verify")]
    BadSignature(&'static str),
}

/// The canonical encoding of `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain values always encode into memory")
}

/// Reads one value of at most `max` bytes that fills `bytes` and is canonical.
pub fn decode<T: Serialize + DeserializeOwned>(what: &'static str, bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { what, bytes: bytes.len(), max });
    }
    let (value, rest): (T, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed(what))?;
    if !rest.is_empty() || encode(&value) != bytes {
        return Err(DecodeError::NotCanonical(what));
    }
    Ok(value)
}

/// Reads one canonical value at the start of `bytes`; returns it and what follows.
pub fn decode_prefix<'a, T: Serialize + DeserializeOwned>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), DecodeError> {
    let (value, rest): (T, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed(what))?;
    if encode(&value) != bytes[..bytes.len() - rest.len()] {
        return Err(DecodeError::NotCanonical(what));
    }
    Ok((value, rest))
}

/// At most `MAX` values of one type. The count is checked before anything is allocated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes `items` unless there are too many.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.len() <= MAX).then_some(Self(items))
    }

    /// Takes the first `MAX` of `items`.
    pub fn truncated(mut items: Vec<T>) -> Self {
        items.truncate(MAX);
        Self(items)
    }

    /// The values.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for List<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for item in &self.0 {
            seq.serialize_element(item)?;
        }
        seq.end()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Visitor<T, MAX> {
            type Value = List<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T, MAX>, A::Error> {
                if seq.size_hint().is_some_and(|n| n > MAX) {
                    return Err(de::Error::custom("too many values"));
                }
                // Grown as values arrive: a count alone, without the bytes for it, allocates nothing.
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX {
                        return Err(de::Error::custom("too many values"));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }
        deserializer.deserialize_seq(Visitor(PhantomData))
    }
}

/// At most `MAX` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Bytes<MAX> {
    /// Takes `bytes` unless there are too many.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= MAX).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> Deref for Bytes<MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const MAX: usize> Serialize for Bytes<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MAX: usize>;
        impl<const MAX: usize> de::Visitor<'_> for Visitor<MAX> {
            type Value = Bytes<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes<MAX>, E> {
                if bytes.len() > MAX {
                    return Err(E::custom("too many bytes"));
                }
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// UTF-8 text of at most `MAX` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes `text` unless it is too long.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (text.len() <= MAX).then_some(Self(text))
    }

    /// Takes as much of `text` as fits.
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].to_string())
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MAX: usize>;
        impl<const MAX: usize> de::Visitor<'_> for Visitor<MAX> {
            type Value = Text<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "text of at most {MAX} bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<MAX>, E> {
                Text::new(text).ok_or_else(|| E::custom("too long a text"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_encoding() {
        let list = List::<u16, 4>::new(vec![1, 300]).expect("within the bound");
        let bytes = encode(&list);
        assert_eq!(decode::<List<u16, 4>>("list", &bytes, 64), Ok(list));
        let over_long_number = [0x02, 0x81, 0x00, 0xac, 0x02];
        assert_eq!(decode::<List<u16, 4>>("list", &over_long_number, 64), Err(DecodeError::NotCanonical("list")));
        let trailing = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode::<List<u16, 4>>("list", &trailing, 64), Err(DecodeError::NotCanonical("list")));
    }

    #[test]
    fn a_huge_count_is_refused_before_memory_is_taken() {
        let count_of_four_billion = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(decode::<List<u64, 16>>("list", &count_of_four_billion, 64), Err(DecodeError::Malformed("list")));
        assert_eq!(decode::<Bytes<16>>("bytes", &count_of_four_billion, 64), Err(DecodeError::Malformed("bytes")));
    }
}
