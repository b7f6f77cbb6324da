//! What the archive is and has; whether it is sound; repairing it; passwords for restic.

use std::sync::Arc;

use data_encoding::BASE32_NOPAD;

use super::take::{self, NotTaken};
use super::{
    Beside, checked, failure, fit, is_eligible, looked, note, notes, open, place, prepare, problem, tried, work,
};
use crate::base::FolderId;
use crate::node::audit::folder_ref;
use crate::node::{Shared, lock, places};
use crate::shell::archive::{self as repository, Archive, ArchiveError, Checked, Snapshot};
use crate::shell::{clock, entropy};
use crate::wire::api::{
    ArchiveChecked, ArchivePassword, ArchiveStatus, ArchivedFolder, Failure, PathText, Secret, UtcTime,
};

/// Damaged files that an answer lists at most. A guess.
const DAMAGED_MAX: usize = 100;
/// Bytes of a recovery password: 160 bits, as many as nobody guesses.
const PASSWORD_BYTES: usize = 20;

/// What the archive is and has.
pub(super) async fn status(shared: &Arc<Shared>) -> Result<ArchiveStatus, Failure> {
    let place = place(shared);
    let noted = notes(shared)?;
    let mut status = ArchiveStatus {
        path: places::to_text(&place),
        made: false,
        enabled: shared.config.archive.enabled,
        eligible: is_eligible(shared),
        every_ms: shared.config.archive.every.ms,
        bytes: None,
        free: repository::room(&place).map(|(free, _)| free),
        password: noted.password.as_ref().map(|password| UtcTime::from_ms(password.at_ms)),
        doing: lock(&shared.archive.doing).clone(),
        problem: None,
        fit: true,
        folders: Vec::new(),
    };
    let mut snapshots = Vec::new();
    if noted.made || place.join("config").exists() {
        status.made = true;
        let archive = open(shared, false)?;
        // What is being done may take long: it is not waited for, and what is read meanwhile is whole.
        let listed = crate::shell::rt::spawn_blocking(move || Ok((archive.snapshots()?, archive.bytes()?))).await;
        looked(shared, listed.as_ref().err());
        if let Ok((all, bytes)) = listed {
            snapshots = all;
            status.bytes = Some(bytes);
        }
    }
    status.problem = problem(shared);
    status.fit = fit(shared).is_ok();
    status.folders = shared.folders().keys().map(|folder| archived(shared, *folder, &snapshots)).collect();
    Ok(status)
}

fn archived(shared: &Shared, folder: FolderId, snapshots: &[Snapshot]) -> ArchivedFolder {
    let mut own = snapshots.iter().filter(|snapshot| snapshot.folder == folder);
    let (first, last) = (own.clone().next(), own.clone().next_back());
    ArchivedFolder {
        folder: folder_ref(shared.mesh.policy().as_deref(), folder),
        snapshots: own.by_ref().count() as u64,
        first: first.map(|snapshot| UtcTime::from_ms(snapshot.at_ms)),
        last: last.map(|snapshot| UtcTime::from_ms(snapshot.at_ms)),
        incomplete: last.is_some_and(|snapshot| !snapshot.whole),
        problem: lock(&shared.archive.health).of(folder),
    }
}

/// Checks the archive; repairs it where that is asked for.
pub(super) async fn check(shared: &Arc<Shared>, read_data: bool, repair: bool) -> Result<ArchiveChecked, Failure> {
    let archive = open(shared, false)?;
    let cannot = |error: ArchiveError| failure("cannot check the archive", &error);
    // What is to be repaired is in nobody's use meanwhile.
    let _turn = shared.archive.taking.lock().await;
    prepare(shared, &archive, false).await.map_err(cannot)?;
    // What is repaired must be known exactly.
    let found = look(shared, &archive, read_data || repair).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            looked(shared, Some(&error));
            return Err(cannot(error));
        }
    };
    checked(shared, sound(&found))?;
    let damaged = found.damaged.iter().take(DAMAGED_MAX);
    let mut answer = ArchiveChecked {
        snapshots: found.snapshots,
        bytes: found.bytes,
        damaged: damaged.map(|one| places::to_text(&one.path)).collect::<Vec<PathText>>(),
        findings: found.findings.clone(),
        count: found.count,
        repaired: false,
        left: Vec::new(),
        lost: false,
    };
    if repair && found.count > 0 {
        let (left, lost) =
            mend(shared, &archive, found).await.map_err(|error| failure("cannot repair the archive", &error))?;
        checked(shared, sound(&left))?;
        (answer.repaired, answer.left, answer.lost) = (left.count == 0, left.findings, lost);
    }
    Ok(answer)
}

async fn look(shared: &Arc<Shared>, archive: &Archive, read_data: bool) -> Result<Checked, ArchiveError> {
    let archive = archive.clone();
    work(shared, "checking the archive".into(), Beside::Others, move || archive.check(read_data)).await
}

/// What was found, in one line; `None`: it is sound.
fn sound(found: &Checked) -> Option<String> {
    let first = found.damaged.first().map(|one| format!("{} is damaged", one.path.display()));
    let first = first.or_else(|| found.findings.first().cloned())?;
    let more = found.count.saturating_sub(1);
    Some(format!(
        "the archive is damaged: {first}{}",
        if more > 0 { format!(", and {more} more") } else { String::new() }
    ))
}

/// Takes out what is damaged, reads the folders afresh, and takes what is lost then out of the older snapshots. Returns what
/// is wrong after that, and whether anything was lost.
async fn mend(shared: &Arc<Shared>, archive: &Archive, found: Checked) -> Result<(Checked, bool), ArchiveError> {
    let own = archive.clone();
    let aside = move || own.set_aside(&found.damaged);
    work(shared, "repairing the archive".into(), Beside::Nothing, aside).await?;
    if is_eligible(shared) {
        for (folder, handle) in shared.folders() {
            match take::take(shared, archive, folder, handle, true).await {
                Ok(_) | Err(NotTaken::Folder(_)) => {}
                Err(NotTaken::Archive(error)) => return Err(error),
            }
        }
    }
    let left = look(shared, archive, true).await?;
    if left.count == 0 {
        return Ok((left, false));
    }
    let own = archive.clone();
    work(shared, "repairing the snapshots".into(), Beside::Nothing, move || own.repair_snapshots()).await?;
    Ok((look(shared, archive, true).await?, true))
}

/// Makes a new recovery password because somebody asks.
pub(super) async fn new_password(shared: &Arc<Shared>) -> Result<ArchivePassword, Failure> {
    let archive = open(shared, false)?;
    prepare(shared, &archive, false).await.map_err(|error| failure("cannot open the archive", &error))?;
    Ok(ArchivePassword { password: password(shared, &archive).await?, path: places::to_text(&place(shared)) })
}

/// Makes a recovery password that opens the archive, instead of the one before.
pub(super) async fn password(shared: &Arc<Shared>, archive: &Archive) -> Result<Secret, Failure> {
    let letters = BASE32_NOPAD.encode(&entropy::bytes::<PASSWORD_BYTES>()).to_ascii_lowercase();
    let groups: Vec<String> = letters.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into()).collect();
    let password = Secret(groups.join("-"));
    let before = notes(shared)?.password.map(|password| password.key);
    let (own, told) = (archive.clone(), password.clone());
    let host = shared.name_of(shared.mesh.node());
    let added = work(shared, "adding a password".into(), Beside::Nothing, move || {
        own.add_password(&told.0, &host, before.as_deref())
    });
    let added = added.await;
    tried(shared, added.as_ref().err());
    let key = added.map_err(|error| failure("cannot make a recovery password", &error))?;
    let at_ms = clock::wall_ms();
    note(shared, |notes| notes.password = Some(super::notes::Password { at_ms, key }))?;
    Ok(password)
}
