//! Effects: one file per outside thing, each thin, none of them deciding.

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod home;
pub mod keystore;
pub mod net;
pub mod rt;
pub mod store;
