//! Which folders run here, where they are, and how they come and go.
//!
//! A folder runs while the rules let this node read it and its place is known. Where it is, is remembered before it
//! starts; what it knows (its index) belongs to one folder of one mesh and goes when the folder is dropped. Files
//! are never removed here.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Access;
use tracing::{info, warn};

use super::folder::{FolderEvent, FolderHandle, Setup};
use super::mesh::MeshError;
use super::outside::{self, Make, Reach};
use super::places::{Scope, real};
use super::record::Place;
use super::{Shared, inbox, lock, places, shown, standing};
use crate::base::path::escape;
use crate::base::{FolderId, Level, RelPath, StatementId};
use crate::logic::policy;
use crate::shell::disk::{self, Folder, MarkerError};
use crate::shell::store::{Condition, Store};
use crate::shell::{clock, home, rt};
use crate::wire::api::{Event, Failure, Founded, MeshRef, Shared as SharedAnswer};
use crate::wire::recovery::RecoveryKey;
use crate::wire::statement::{Grant, Name, Subject};

/// Least cache of one folder's index, however many folders share the configured memory.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;
/// Folders that the configured memory is cut for. More than an office has; each further one gets the least.
const CACHE_SHARES: u64 = 4;

/// Starts every folder whose place is known, at the start of the node.
pub(super) async fn start_all(shared: &Arc<Shared>) {
    let Some(policy) = shared.mesh.policy() else { return };
    let me = shared.mesh.node();
    if !policy.is_member(me) {
        return;
    }
    let visible = policy.visible_folders(me, clock::wall_ms());
    for folder in visible {
        let Some(root) = shared.mesh.record().place(folder).and_then(Place::at).map(places::to_path) else { continue };
        if let Err(failure) = start(shared, folder, root, History::AsKept).await {
            shared.alert(super::one_line(&failure), failure.hint);
        }
    }
}

/// Ends every folder, all at once.
pub(super) async fn stop_all(shared: &Arc<Shared>) {
    let stopping: Vec<_> =
        take_all(shared).into_iter().map(|handle| rt::spawn(async move { handle.stop().await })).collect();
    for one in stopping {
        one.await;
    }
}

fn take_all(shared: &Shared) -> Vec<FolderHandle> {
    std::mem::take(&mut *lock(&shared.folders)).into_values().map(|(_, handle)| handle).collect()
}

/// Every folder looks at everything again: after a suspend.
pub(super) async fn look_again(shared: &Arc<Shared>) {
    for handle in shared.folders().into_values() {
        handle.tell(FolderEvent::LookAgain).await;
    }
}

/// Brings the running folders in line with the rules: new ones are received, lost ones end.
pub(super) async fn follow_rules(shared: &Arc<Shared>) {
    let _one = shared.changing.lock().await;
    let Some(policy) = shared.mesh.policy() else { return };
    let me = shared.mesh.node();
    let now = clock::wall_ms();
    let visible = if policy.is_member(me) { policy.visible_folders(me, now) } else { Vec::new() };
    for (folder, handle) in shared.folders() {
        if !visible.contains(&folder) {
            lock(&shared.folders).remove(&folder);
            handle.stop().await;
            let name = policy.folder(folder).map_or_else(|| folder.to_hex(), |state| state.name.clone());
            shared.alert(
                format!("folder {name} is not shared with this node any more"),
                Some(String::from("the files stay where they are; changes are neither sent nor received")),
            );
        }
    }
    for folder in visible {
        let known = shared.mesh.record().place(folder).cloned();
        match known {
            Some(place) => {
                if let Some(path) = place.at().filter(|_| shared.folder(folder).is_none())
                    && let Err(failure) = start(shared, folder, places::to_path(path), History::AsKept).await
                {
                    shared.alert(super::one_line(&failure), failure.hint);
                }
            }
            None => {
                let name = policy.folder(folder).map_or_else(|| folder.to_hex(), |state| state.name.clone());
                shared.tell(Event::FolderOffered { folder: name.clone() });
                // The office's server holds every folder that is open to it.
                if (shared.mesh.record().receives || shared.collects())
                    && let Err(failure) = receive(shared, folder, &name).await
                {
                    shared.alert(super::one_line(&failure), failure.hint);
                }
            }
        }
    }
    for handle in shared.folders().into_values() {
        handle.tell(FolderEvent::Rules).await;
    }
    let _ = shared.to_loop.send(inbox::Event::Folders).await;
}

/// Receives a folder in the usual place, under its name.
async fn receive(shared: &Arc<Shared>, folder: FolderId, name: &str) -> Result<(), Failure> {
    let path = destined(shared, folder, name);
    if let Some(into) = path.parent()
        && matches!(outside::reach(shared, into, Make::All), Reach::Anew)
    {
        // The next run receives it.
        return Ok(());
    }
    std::fs::create_dir_all(&path).map_err(|error| {
        Failure::failed(format!("cannot make {} for folder {name}", path.display())).because(&error)
    })?;
    info!(folder = name, path = %path.display(), "received here from now on");
    place(shared, folder, Place::At(places::to_text(&path)))?;
    start(shared, folder, path, History::Fetched).await
}

/// Where a folder that is offered will be received.
pub(super) fn destined(shared: &Shared, folder: FolderId, name: &str) -> PathBuf {
    let server = shared.config.coordinator.folders.as_ref().filter(|_| shared.collects());
    let into = server.map_or_else(|| receive_into(shared), |path| path.as_path().to_path_buf());
    let path = into.join(name);
    match at_path(shared, &path) {
        Some(_) => into.join(format!("{name} {}", &folder.to_hex()[..6])),
        None => path,
    }
}

/// Where folders are received.
pub(super) fn receive_into(shared: &Shared) -> PathBuf {
    let remembered = shared.mesh.record().receive_into.as_ref().map(places::to_path);
    let configured = lock(&shared.live).receive_into.as_ref().map(|path| path.as_path().to_path_buf());
    remembered.or(configured).unwrap_or_else(|| shared.places.receive_into.clone())
}

/// Where the history of a folder that starts comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum History {
    /// It begins here: this node has just made the folder.
    Begins,
    /// From another member, before anything is signed here.
    Fetched,
    /// As the index has it.
    AsKept,
}

/// Starts a folder's threads.
pub(super) async fn start(
    shared: &Arc<Shared>,
    folder: FolderId,
    root: PathBuf,
    history: History,
) -> Result<(), Failure> {
    let shared_too = shared.clone();
    rt::spawn_blocking(move || start_now(&shared_too, folder, root, history)).await?;
    // A loop that has ended needs no word.
    let _ = shared.to_loop.send(inbox::Event::Folders).await;
    Ok(())
}

fn start_now(shared: &Arc<Shared>, folder: FolderId, root: PathBuf, history: History) -> Result<(), Failure> {
    let name = shared
        .mesh
        .policy()
        .and_then(|policy| policy.folder(folder).map(|state| state.name.clone()))
        .unwrap_or_else(|| folder.to_hex());
    let cannot = || Failure::failed(format!("cannot start folder {name} at {}", root.display()));
    let disk = Folder::open(&root).map_err(|error| cannot().because(&error))?;
    let for_group = shared.places.scope == Scope::Service;
    let disk = if for_group { disk.for_group() } else { disk };
    if history == History::AsKept {
        disk.check_marker(folder).map_err(|error| {
            cannot().because(&error).hint("mount its disk, or restore the directory, and start the node again")
        })?;
    }
    disk.create_marker(folder).map_err(|error| cannot().because(&error))?;
    if let Err(error) = disk::stage::clean(&disk, clock::wall_ms()) {
        warn!(folder = name, %error, "left-over temporary files stay");
    }
    let index = index_path(shared, folder);
    home::make_dir(index.parent().unwrap_or(&shared.places.state)).map_err(|error| cannot().because(&error))?;
    let cache = (shared.config.limits.index_cache_mib * 1024 * 1024 / CACHE_SHARES).max(CACHE_BYTES_MIN);
    let opened = Store::open(&index, usize::try_from(cache).unwrap_or(usize::MAX)).map_err(|error| {
        let failure = cannot().because(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    if let Condition::SetAside { aside, why } = &opened.condition {
        shared.alert(
            format!(
                "the index of folder {name} was damaged ({why}) and is rebuilt from the files and the other members"
            ),
            Some(format!("nothing to do; the damaged file is kept as {}", aside.display())),
        );
    }
    if for_group {
        opened.store.set_for_group();
    }
    let capacity = disk::versions::capacity(&disk);
    let mut folders = lock(&shared.folders);
    if folders.contains_key(&folder) {
        return Ok(());
    }
    let slot = (1..=u16::MAX).find(|slot| folders.values().all(|(used, _)| used != slot)).unwrap_or(u16::MAX);
    let handle = FolderHandle::start(Setup {
        mesh_id: shared.mesh.need_policy().map_err(|error| cannot().because(&error))?.mesh(),
        folder,
        name: name.clone(),
        root: root.clone(),
        disk: Arc::new(disk),
        store: opened.store,
        slot,
        begins: history == History::Begins,
        selection: shared.mesh.record().place(folder).and_then(Place::selection).unwrap_or_default(),
        shared: shared.clone(),
        scan_ms: shared.config.scan.interval_s * 1000,
        retention: shared.config.versions.of(&name, &folder.to_hex(), capacity),
        looks: shared.config.looks(&name, &folder.to_hex()),
    })
    .map_err(|error| cannot().because(&error))?;
    folders.insert(folder, (slot, handle));
    Ok(())
}

/// Where a folder's index is.
fn index_path(shared: &Shared, folder: FolderId) -> PathBuf {
    shared.places.state.join("folders").join(folder.to_hex()).join("index.redb")
}

/// Ends a folder here and forgets what is known of it. Files stay.
pub(super) async fn end(shared: &Arc<Shared>, folder: FolderId, root: &Path) {
    let handle = lock(&shared.folders).remove(&folder);
    if let Some((_, handle)) = handle {
        handle.stop().await;
    }
    if let Some(dir) = index_path(shared, folder).parent()
        && let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(%error, "the index of a folder that ended stays");
    }
    if let Ok(disk) = Folder::open(root)
        && let Err(error) = disk.unmark()
    {
        warn!(%error, "the marker of a folder that ended stays");
    }
}

/// Ends every folder; files stay.
pub(super) async fn end_all(shared: &Arc<Shared>) {
    for (folder, root) in placed(shared) {
        end(shared, folder, &root).await;
    }
}

/// Sees to it that the directories of the command line of `up` can be shared.
pub(super) fn reach_at_start(shared: &Arc<Shared>, paths: &[PathBuf]) -> Result<(), Failure> {
    let mut closed = None;
    for path in paths {
        standing::must_belong(shared)?;
        if matches!(outside::reach(shared, path, Make::Last), Reach::Anew) {
            closed = closed.or(Some(outside::asked_again(path)));
        }
    }
    closed.map_or(Ok(()), Err)
}

/// Shares a directory of the command line of `up`; `None` where it is shared already.
pub(super) async fn share_at_start(shared: &Arc<Shared>, path: &Path) -> Result<Option<SharedAnswer>, Failure> {
    if let Ok(path) = path.canonicalize()
        && at_path(shared, &path).is_some()
    {
        return Ok(None);
    }
    shared.mesh.settle().await;
    share(shared, path, None, Level::Write).await.map(Some)
}

/// Shares a directory; founds a mesh where there is none.
pub(super) async fn share(
    shared: &Arc<Shared>,
    path: &Path,
    name: Option<String>,
    everyone: Level,
) -> Result<SharedAnswer, Failure> {
    let _one = shared.changing.lock().await;
    standing::must_belong(shared)?;
    let (path, made_directory) = usable(shared, path, "share")?;
    let name = match name {
        Some(name) => name,
        None => name_of(&path)?,
    };
    let founded = found_if_none(shared)?;
    let folder = create(shared, &name, everyone)?;
    place(shared, folder, Place::At(places::to_text(&path)))?;
    start(shared, folder, path, History::Begins).await?;
    let folder = shown::folder(shared, folder).ok_or_else(|| Failure::failed("the folder has ended already"))?;
    Ok(SharedAnswer { folder, made_directory, everyone, founded })
}

/// Signs a new folder, and what everyone may do there.
pub(super) fn create(shared: &Shared, name: &str, everyone: Level) -> Result<FolderId, Failure> {
    let me = shared.mesh.node();
    let taken = |name: &str| Failure::failed(format!("a folder named {name} exists already"));
    let ids: Vec<StatementId> = shared.mesh.sign(|policy| {
        if policy.folders().any(|(_, state)| !state.retired && state.name == name) {
            return Err(taken(name).hint("give it another name with --name, or receive that folder with `lanyard get`"));
        }
        let body = policy::plan_create_folder(policy, me, name).map_err(|error| standing::refused(&error))?;
        Ok(vec![body])
    })?;
    let folder = FolderId(ids.first().map_or([0; 32], |id| id.0));
    if everyone > Level::None {
        shared.mesh.sign(|policy| {
            let rule =
                Grant { folder, subject: Subject::Everyone, path: RelPath::root(), level: everyone, not_after: None };
            let body =
                policy::plan_grant(policy, me, rule, clock::wall_ms()).map_err(|error| standing::refused(&error))?;
            Ok::<_, Failure>(vec![body])
        })?;
    }
    Ok(folder)
}

/// Founds a mesh where there is none.
pub(super) fn found_if_none(shared: &Shared) -> Result<Option<Founded>, Failure> {
    if shared.mesh.policy().is_some() {
        return Ok(None);
    }
    // Nothing of this machine: an open invitation shows the name to everyone on the network.
    let name = String::from("Office");
    let (mesh, seed) =
        shared.mesh.found(&name).map_err(|error| Failure::failed("cannot found a mesh").because(&error))?;
    let recovery_key = Some(RecoveryKey::from_seed(seed).to_text());
    Ok(Some(Founded { mesh: MeshRef { id: mesh.to_hex(), name }, recovery_key }))
}

/// Remembers where a folder is.
pub(super) fn place(shared: &Shared, folder: FolderId, place: Place) -> Result<(), Failure> {
    shared
        .mesh
        .remember(|record| {
            record.folders.insert(folder.to_hex(), place);
        })
        .map_err(|error: MeshError| Failure::failed("cannot write this node's record").because(&error))
}

/// The folder whose root a path is.
pub(super) fn at_path(shared: &Shared, path: &Path) -> Option<FolderId> {
    placed(shared).into_iter().find(|(_, root)| root == path).map(|(folder, _)| folder)
}

/// Every folder with its root.
pub(super) fn placed(shared: &Shared) -> Vec<(FolderId, PathBuf)> {
    let record = shared.mesh.record();
    let place = |(folder, place): (&String, &Place)| Some((FolderId::from_hex(folder)?, places::to_path(place.at()?)));
    record.folders.iter().filter_map(place).collect()
}

/// Checks that a directory can be shared or received into, and makes its last component where it is missing.
pub(super) fn usable(shared: &Arc<Shared>, path: &Path, verb: &str) -> Result<(PathBuf, bool), Failure> {
    let shown = escape(path.as_os_str().as_bytes());
    let cannot = || Failure::failed(format!("cannot {verb} {shown}"));
    // The service sees little of the machine: what it cannot use may be there all the same.
    let is_service = shared.places.scope == Scope::Service;
    let in_the_way = |failure: Failure, hint: &str| {
        failure.hint(match is_service {
            true => format!(
                "the service is kept to its own directories: run 'lanyard service allow {}' as root, which opens this one, and try again",
                shell_word(path)
            ),
            false => hint.to_owned(),
        })
    };
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Failure::usage(format!("{shown} is not an absolute path")));
    }
    // Known from the names: nothing is opened for a path that is refused.
    let found = real(path);
    apart(shared, &found).map_err(|why| cannot().why(why))?;
    if shared.places.state.starts_with(&found) {
        return Err(cannot().why("it holds this node's own key and index").hint("share another directory"));
    }
    let (tried, made_before) = match path.try_exists() {
        Ok(true) if !path.is_dir() => {
            return Err(cannot().why("it is not a directory").hint("share the directory that holds it"));
        }
        _ => match outside::reach(shared, path, Make::Last) {
            Reach::Within { made } => (std::fs::create_dir(path), made),
            Reach::Anew => return Err(outside::asked_again(path)),
            Reach::Cannot(error) if error.kind() == std::io::ErrorKind::Other => {
                let hint = "the node starts anew to open it, and could not: put that right first";
                return Err(cannot().because(&error).hint(hint));
            }
            Reach::Cannot(_) if path.is_dir() => (Err(std::io::ErrorKind::AlreadyExists.into()), false),
            Reach::Cannot(error) => (Err(error), false),
        },
    };
    let made = match tried {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => made_before,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(in_the_way(cannot().because(&error), "the directory above it does not exist: make it first"));
        }
        Err(error) => {
            return Err(in_the_way(cannot().because(&error), "share a directory that this user may write to"));
        }
    };
    let unseen = |error| in_the_way(cannot().because(&error), "check the path and its permissions");
    let real = path.canonicalize().map_err(unseen)?;
    std::fs::read_dir(&real)
        .map_err(|error| in_the_way(cannot().because(&error), "give this user the right to read the directory"))?;
    rustix::fs::access(&real, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        in_the_way(cannot().because(&std::io::Error::from(errno)), "give this user the right to write to the directory")
    })?;
    match Folder::open(&real).map_err(|error| cannot().because(&error))?.marker() {
        Ok(_) if !made => Err(cannot()
            .why("it is marked as a folder of another node or mesh")
            .hint("if no other node uses it, remove `.lanyard/marker` in it and try again")),
        Ok(_) | Err(MarkerError::Missing(_)) => Ok((real, made)),
        Err(error) => Err(cannot().because(&error)),
    }
}

/// Checks that a directory is neither inside nor around another shared one; else says so.
fn apart(shared: &Shared, real: &Path) -> Result<(), String> {
    for (folder, root) in placed(shared) {
        let name = standing::folder_name(shared, folder);
        let root = root.canonicalize().unwrap_or(root);
        if root == real {
            return Err(format!("it is shared already, as {name}"));
        }
        if real.starts_with(&root) {
            return Err(format!("it is inside {}, which is shared as {name}", root.display()));
        }
        if root.starts_with(real) {
            return Err(format!("{} inside it is shared already, as {name}", root.display()));
        }
    }
    Ok(())
}

/// A path that a shell reads as one word.
fn shell_word(path: &Path) -> String {
    let text = escape(path.as_os_str().as_bytes());
    let bare = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@');
    if text.chars().all(bare) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(Name::new);
    name.map(|name| name.to_string()).ok_or_else(|| {
        Failure::failed(format!("cannot name a folder after {}", escape(path.as_os_str().as_bytes())))
            .hint("give it a name with --name")
    })
}
