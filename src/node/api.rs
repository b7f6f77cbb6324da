//! The local API.
