//! The archive of a lanyard that was built without it: says so.

use std::sync::Arc;

use super::Shared;
use crate::wire::api::{ArchiveAnswer, AskArchive, Failure};

/// Nothing is kept.
#[derive(Default)]
pub(super) struct Keeper;

/// Refuses what is asked of the archive.
pub(super) async fn asked(_: &Arc<Shared>, _: AskArchive) -> Result<ArchiveAnswer, Failure> {
    Err(Failure::refused("this lanyard was built without the archive")
        .hint("build it with the feature 'archive', which is on by default"))
}

/// Without an archive nothing of it can be broken.
pub(super) fn fit(_: &Shared) -> Result<(), String> {
    Ok(())
}

/// There is none that could be old.
pub(super) fn age_ms(_: &Shared) -> Option<u64> {
    None
}

/// Nothing goes on by itself.
pub(super) fn start(_: &Arc<Shared>) {}

/// Nothing is to be ended.
pub(super) async fn stop(_: &Shared) {}
