//! Receiving folders, and paths of folders, on request; and dropping them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::FolderEvent;
use super::record::Place;
use super::{Shared, inbox, outside, places, sharing, shown, standing};
use crate::base::{FolderId, RelPath};
use crate::logic::sync::selection::PARTS_MAX;
use crate::wire::api::{DropFolder, Dropped, Failure, FailureKind, Get, Got, PathText, Standing};

/// Receives a folder, or more of it.
pub(super) async fn get(shared: &Arc<Shared>, get: Get) -> Result<Got, Failure> {
    let inside = get.inside.as_ref().map(inside_path).transpose()?;
    let one = shared.changing.lock().await;
    if standing::standing(shared) == Standing::Alone {
        return Err(Failure::refused("this node is alone in its mesh: there is nobody to receive from")
            .hint("run `lanyard join CODE` to join another mesh"));
    }
    // Whether there is none or none that this node may see is not told apart.
    let folder = standing::find_folder(shared, &get.folder)
        .map_err(|failure| Failure { kind: FailureKind::Refused, ..failure })?;
    let name = standing::folder_name(shared, folder);
    let before = shared.mesh.record().place(folder).cloned();
    let (root, made_directory) = match before.as_ref().and_then(Place::at) {
        None => {
            let (root, made) = sharing::usable(shared, &destination(shared, &get, &name)?, "receive into")?;
            sharing::place(shared, folder, place_with(None, &root, inside.as_ref()))?;
            sharing::start(shared, folder, root.clone(), sharing::History::Fetched).await?;
            (root, made)
        }
        Some(at) => {
            let root = places::to_path(at);
            let elsewhere = get.path.as_ref().is_some_and(|path| places::to_path(path) != root);
            let is_whole = matches!(before, Some(Place::At(_)));
            if elsewhere || (is_whole && inside.is_none()) {
                return Err(Failure::failed(format!("folder {name} is received already, at {}", at.as_str()))
                    .hint(format!("to receive it elsewhere, first run `lanyard drop {name}`")));
            }
            if !is_whole {
                let place = place_with(before.as_ref(), &root, inside.as_ref());
                select(shared, folder, place).await?;
            }
            (root, false)
        }
    };
    drop(one);
    let mut path = root.clone();
    if let Some(inside) = &inside {
        path.push(OsStr::from_bytes(inside.as_bytes()));
        if let Some(handle) = shared.folder(folder) {
            handle.wait().await;
        }
        if path.symlink_metadata().is_err() {
            let _one = shared.changing.lock().await;
            match before {
                Some(before) => select(shared, folder, before).await?,
                None => drop_here(shared, folder, &root).await?,
            }
            return Err(Failure::failed(format!("there is no {inside} in folder {name}"))
                .hint("the path is as it is inside the folder, without a slash in front"));
        }
    }
    let folder = shown::folder(shared, folder).ok_or_else(|| Failure::failed("the folder has ended already"))?;
    Ok(Got { folder, path: places::to_text(&path), made_directory })
}

fn inside_path(text: &PathText) -> Result<RelPath, Failure> {
    let bytes = text.to_bytes();
    let trimmed = bytes.strip_suffix(b"/").unwrap_or(&bytes);
    RelPath::new(trimmed)
        .map_err(|error| Failure::usage(format!("{} is no path inside a folder: {error}", text.as_str())))
}

/// Where a folder is to be received: as asked, or beside the other received ones.
fn destination(shared: &Arc<Shared>, get: &Get, name: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = &get.path {
        return Ok(places::to_path(path));
    }
    let into = sharing::receive_into(shared);
    outside::open_all(shared, &into)?
        .map_err(|error| Failure::failed(format!("cannot make {}", into.display())).because(&error))?;
    Ok(into.join(name))
}

/// The place of a folder of which `inside` (`None`: everything) is wanted beside what is wanted already.
fn place_with(before: Option<&Place>, root: &Path, inside: Option<&RelPath>) -> Place {
    let at = places::to_text(root);
    let Some(inside) = inside.filter(|inside| !inside.is_root()) else { return Place::At(at) };
    let mut parts = before.map(|place| place.inside().to_vec()).unwrap_or_default();
    parts.retain(|part| part.to_bytes() != inside.as_bytes());
    parts.push(PathText::from_bytes(inside.as_bytes()));
    Place::Parts { at, inside: parts }
}

/// Changes what of a folder is wanted here.
async fn select(shared: &Arc<Shared>, folder: FolderId, place: Place) -> Result<(), Failure> {
    let selection = place.selection().ok_or_else(|| {
        Failure::failed(format!("more than {PARTS_MAX} paths of one folder cannot be received one by one"))
            .hint(format!("receive all of it with `lanyard get {}`", standing::folder_name(shared, folder)))
    })?;
    sharing::place(shared, folder, place)?;
    if let Some(handle) = shared.folder(folder) {
        handle.tell(FolderEvent::Select(selection)).await;
    }
    Ok(())
}

/// Ends a folder here. Files stay.
pub(super) async fn drop_folder(shared: &Arc<Shared>, asked: DropFolder) -> Result<Dropped, Failure> {
    let _one = shared.changing.lock().await;
    let folder = standing::find_folder(shared, &asked.folder)?;
    let name = standing::folder_name(shared, folder);
    let Some(path) = shared.mesh.record().place(folder).and_then(Place::at).cloned() else {
        return Err(Failure::failed(format!("folder {name} is not received here")));
    };
    drop_here(shared, folder, &places::to_path(&path)).await?;
    Ok(Dropped { name, path })
}

async fn drop_here(shared: &Arc<Shared>, folder: FolderId, root: &Path) -> Result<(), Failure> {
    sharing::place(shared, folder, Place::Dropped)?;
    sharing::end(shared, folder, root).await;
    let _ = shared.to_loop.send(inbox::Event::Dropped(folder)).await;
    Ok(())
}
