//! Pairing by short code.
