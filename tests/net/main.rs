//! Links, listening, dialling and discovery over real sockets; everything stays on loopback.

mod discovery;
mod links;
mod mini;
mod namespaces;
mod office;
mod relay;
mod strangers;
mod versions;
