//! Shapes of the local API.
