//! The last words of two ends that have no version in common: each says what it speaks, and the connection ends.
//!
//! Page: `docs/spec/links.md`, "Versions".

use std::net::SocketAddr;

use futures_lite::io::{AsyncWriteExt, split};

use super::frames::FrameReader;
use super::tls::Secured;
use crate::base::NodeId;
use crate::logic::versions::Apart;
use crate::wire::codec::{List, Text};
use crate::wire::versions::{Protocol, Spoken, VERSIONS_FRAME_BYTES_MAX, Versions};

/// A machine that was met and speaks no version that this node speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Met {
    /// Who it is, where it proved that or nobody else was looked for.
    pub node: Option<NodeId>,
    /// Where.
    pub remote: SocketAddr,
    /// What the two speak.
    pub apart: Apart,
}

/// Says what this node speaks of `protocol` and hears what the other does. The caller bounds the time.
pub(super) async fn part(secured: Secured, protocol: Protocol, ours: &[u16], software: Text<64>) -> Met {
    let Secured { stream, peer, offered, .. } = secured;
    let remote = super::plain(stream.get_ref().0.remote());
    let (read, mut writer) = split(stream);
    let mut reader = FrameReader::new(read, VERSIONS_FRAME_BYTES_MAX);
    let own = Versions { software, speaks: List::truncated(ours.to_vec()) }.encode();
    let frame = [&u32::try_from(own.len()).expect("a short message").to_be_bytes()[..], &own].concat();
    let said = async {
        writer.write_all(&frame).await.ok()?;
        writer.close().await.ok()?;
        Versions::decode(&reader.frame().await.ok()?).ok()
    };
    // One that does not know this message has shown in its offer what it speaks, if it dialled.
    let said = said.await;
    let theirs = match &said {
        Some(said) => said.speaks.to_vec(),
        None => spoken_of(&offered, protocol),
    };
    // It goes into sentences and logs.
    let software = said.map(|said| said.software.chars().filter(|c| !c.is_control()).collect::<String>());
    let software = software.filter(|software| !software.is_empty());
    Met { node: Some(peer), remote, apart: Apart { ours: ours.to_vec(), theirs, software } }
}

fn spoken_of(offered: &[Spoken], protocol: Protocol) -> Vec<u16> {
    offered.iter().filter(|spoken| spoken.protocol == protocol).map(|spoken| spoken.version).collect()
}
