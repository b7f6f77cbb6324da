//! Commits: exact results, two flushes a group, and no edit lost whenever it comes.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lanyard::base::{FileInfo, FileTime, Kind};
use lanyard::shell::disk::commit::{CommitOrder, Outcome, Put, commit};
use lanyard::shell::disk::primitives::Rename;
use lanyard::shell::disk::stage::{Partial, clean, stage_small};
use lanyard::shell::disk::{Folder, scan};
use lanyard::wire::chunker::chunks_of;

use crate::hooked::{self, Call};
use crate::{contents, folder, info, path};

const MTIME: FileTime = FileTime { secs: 1_500_000_000, nanos: 123_456_789 };

fn order(at: &str, expected: Option<FileInfo>, put: Put) -> CommitOrder {
    CommitOrder::new(path(at), expected, put)
}

fn file(folder: &Folder, bytes: &[u8]) -> Put {
    Put::File { staged: stage_small(folder, bytes).expect("stages"), mode: 0o640, mtime: MTIME }
}

fn one(folder: &Folder, order: CommitOrder) -> Outcome {
    commit(folder, vec![order]).pop().expect("one outcome")
}

fn done(outcome: Outcome) -> Option<FileInfo> {
    match outcome {
        Outcome::Done { info } => info,
        other => panic!("{other:?}"),
    }
}

fn is_local_change(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::LocalChange { .. })
}

#[test]
fn a_new_file_arrives_with_its_exact_mode_and_time_and_the_directories_above() {
    let (dir, folder) = folder();
    let put = done(one(&folder, order("a/b/c", None, file(&folder, b"hello")))).expect("a file");

    let meta = fs::metadata(dir.path().join("a/b/c")).expect("there");
    assert_eq!(fs::read(dir.path().join("a/b/c")).expect("readable"), b"hello");
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, MTIME.secs, 123_456_789));
    assert_eq!(Some(put), info(&folder, "a/b/c"));
    assert!(contents(&dir.path().join(".lanyard/tmp")).is_empty());
}

#[test]
fn what_arrives_in_a_folder_of_a_group_the_group_may_change() {
    let (dir, folder) = folder();
    let folder = folder.for_group();
    done(one(&folder, order("a/b/c", None, file(&folder, b"hello"))));
    done(one(&folder, order("d", None, Put::Dir { mode: 0o755 })));
    let mode = |at: &str| fs::metadata(dir.path().join(at)).expect("there").mode() & 0o777;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c"), mode("d")), (0o775, 0o775, 0o660, 0o775));
    // What is not the folder's stays the owner's alone.
    assert_eq!(mode(".lanyard"), 0o700);
}

#[test]
fn a_mode_that_only_the_owner_may_set_is_set_on_a_copy() {
    let (dir, plain) = folder();
    let first = done(one(&plain, order("f", None, file(&plain, b"by anna"))));
    let theirs = fs::metadata(dir.path().join("f")).expect("there").ino();
    let hooked = hooked::folder(dir.path(), |call| match call {
        Call::Set(at) if at.as_bytes() == b"f" => Err(std::io::Error::from_raw_os_error(1)),
        _ => Ok(()),
    });
    let meta = Put::Meta { mode: 0o750, mtime: Some(FileTime { secs: 7, nanos: 0 }) };
    let info = done(one(&hooked, order("f", first, meta))).expect("a file");
    let found = fs::metadata(dir.path().join("f")).expect("there");
    assert_eq!((found.mode() & 0o777, found.mtime(), info.mode), (0o750, 7, 0o750));
    assert_ne!(found.ino(), theirs);
    assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"by anna");
    // The owner's own file is a version now, as everything is that was replaced.
    assert!(contents(&dir.path().join(".lanyard/versions")).iter().any(|c| c == b"by anna"));
}

#[test]
fn the_replaced_and_the_removed_are_kept_as_versions() {
    let (dir, folder) = folder();
    let first = done(one(&folder, order("d/f", None, file(&folder, b"first"))));
    let second = done(one(&folder, order("d/f", first, file(&folder, b"second"))));
    assert_eq!(fs::read(dir.path().join("d/f")).expect("readable"), b"second");
    assert_eq!(done(one(&folder, order("d/f", second, Put::Remove))), None);

    assert!(!dir.path().join("d/f").exists());
    let mut kept = contents(&dir.path().join(".lanyard/versions/d"));
    kept.sort();
    assert_eq!(kept, [b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn an_edit_known_before_the_swap_is_left_alone() {
    let (dir, folder) = folder();
    let first = done(one(&folder, order("f", None, file(&folder, b"first"))));
    fs::write(dir.path().join("f"), "edited").expect("written");

    for put in [file(&folder, b"remote"), Put::Remove, Put::Meta { mode: 0o600, mtime: None }] {
        let outcome = one(&folder, order("f", first, put));
        assert!(matches!(&outcome, Outcome::LocalChange { found, .. } if *found == info(&folder, "f")), "{outcome:?}");
    }
    let outcome = one(&folder, order("f", None, file(&folder, b"remote")));
    assert!(matches!(&outcome, Outcome::LocalChange { staged: Some(_), .. }), "{outcome:?}");
    assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"edited");
    drop(outcome);
    assert!(contents(&dir.path().join(".lanyard")).iter().all(|c| c != b"remote"));
}

/// Runs `edit` just before the `nth` exchange or removal of the file `f`, while it is being replaced or removed.
fn edited_before_swap(nth: usize, edit: fn(PathBuf), put: fn(&Folder) -> Put) -> (tempfile::TempDir, Folder, Outcome) {
    let (dir, plain) = folder();
    let first = done(one(&plain, order("f", None, file(&plain, b"first"))));
    let target = dir.path().join("f");
    let mut count = 0;
    let hooked = hooked::folder(dir.path(), move |call| {
        let swaps = match call {
            Call::Rename(_, Rename::Exchange) => true,
            Call::Rename(from, _) => from.as_bytes() == b"f",
            _ => false,
        };
        if swaps {
            count += 1;
            if count == nth {
                edit(target.clone());
            }
        }
        Ok(())
    });
    let put = put(&hooked);
    let outcome = one(&hooked, order("f", first, put));
    (dir, plain, outcome)
}

fn save_in_place(target: PathBuf) {
    fs::write(target, "local edit").expect("written");
}

fn save_by_rename(target: PathBuf) {
    let aside = target.with_extension("swp");
    fs::write(&aside, "local edit").expect("written");
    fs::rename(aside, target).expect("renamed");
}

#[test]
fn an_edit_between_the_look_and_the_swap_gets_its_name_back() {
    for edit in [save_in_place as fn(PathBuf), save_by_rename] {
        let (dir, folder, outcome) = edited_before_swap(1, edit, |folder| file(folder, b"remote"));
        let Outcome::LocalChange { found, staged: Some(staged) } = outcome else { panic!("{outcome:?}") };
        assert_eq!(found, info(&folder, "f"));
        assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"local edit");
        // The content is still there to be put beside it.
        let again = Put::File { staged, mode: 0o600, mtime: MTIME };
        done(one(&folder, order("f (conflict)", None, again)));
        assert_eq!(fs::read(dir.path().join("f (conflict)")).expect("readable"), b"remote");
    }
}

#[test]
fn an_edit_just_before_a_removal_gets_its_name_back() {
    for edit in [save_in_place as fn(PathBuf), save_by_rename] {
        let (dir, _, outcome) = edited_before_swap(1, edit, |_| Put::Remove);
        assert!(is_local_change(&outcome), "{outcome:?}");
        assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"local edit");
    }
}

#[test]
fn what_was_taken_out_and_could_not_be_put_back_is_removed_and_kept() {
    let (dir, plain) = folder();
    let first = done(one(&plain, order("f", None, file(&plain, b"first"))));
    let target = dir.path().join("f");
    let hooked = hooked::folder(dir.path(), move |call| match call {
        Call::Rename(from, _) if from.as_bytes() == b"f" => fs::write(&target, "local edit"),
        Call::Rename(_, Rename::NoReplace) => Err(std::io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    // Told as a change of this user's, it would be announced as their deletion.
    assert_eq!(done(one(&hooked, order("f", first, Put::Remove))), None);
    assert!(contents(&dir.path().join(".lanyard/versions")).iter().any(|c| c == b"local edit"));
}

#[test]
fn two_edits_around_the_swap_are_both_kept_and_the_newer_has_the_name() {
    let (dir, plain) = folder();
    let first = done(one(&plain, order("f", None, file(&plain, b"first"))));
    let target = dir.path().join("f");
    let mut count = 0;
    let hooked = hooked::folder(dir.path(), move |call| {
        if let Call::Rename(_, Rename::Exchange) = call {
            count += 1;
            let aside = target.with_extension("swp");
            match count {
                1 => fs::write(&aside, "edit 1")?,
                2 => fs::write(&aside, "edit 2")?,
                _ => return Ok(()),
            }
            fs::rename(aside, &target)?;
        }
        Ok(())
    });
    let put = file(&hooked, b"remote");
    let outcome = one(&hooked, order("f", first, put));

    assert!(is_local_change(&outcome), "{outcome:?}");
    assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"edit 2");
    assert!(contents(&dir.path().join(".lanyard/versions")).contains(&b"edit 1".to_vec()));
}

#[test]
fn a_file_deleted_around_the_swap_loses_nothing() {
    let delete: fn(PathBuf) = |target| fs::remove_file(target).expect("removed");
    let (dir, _, outcome) = edited_before_swap(1, delete, |folder| file(folder, b"remote"));
    assert!(matches!(outcome, Outcome::LocalChange { found: None, staged: Some(_) }), "{outcome:?}");
    assert!(!dir.path().join("f").exists());
    let (_, _, outcome) = edited_before_swap(1, delete, |_| Put::Remove);
    assert!(matches!(outcome, Outcome::Done { info: None }), "{outcome:?}");
}

#[test]
fn a_late_write_through_an_old_handle_is_in_the_kept_version() {
    let (dir, folder) = folder();
    let first = done(one(&folder, order("f", None, file(&folder, b"first"))));
    let mut handle = fs::OpenOptions::new().append(true).open(dir.path().join("f")).expect("opens");
    done(one(&folder, order("f", first, file(&folder, b"remote"))));
    io::Write::write_all(&mut handle, b" and more").expect("written");
    assert_eq!(contents(&dir.path().join(".lanyard/versions")), [b"first and more".to_vec()]);
}

#[test]
fn a_directory_swapped_for_a_symlink_leads_nowhere() {
    let (dir, folder) = folder();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("f"), "outside").expect("written");
    let first = done(one(&folder, order("d/f", None, file(&folder, b"first"))));
    fs::rename(dir.path().join("d"), dir.path().join("e")).expect("renamed");
    symlink(outside.path(), dir.path().join("d")).expect("linked");

    let orders = || {
        vec![
            order("d/f", first, file(&folder, b"remote")),
            order("d/f", first, Put::Remove),
            order("d/f", first, Put::Meta { mode: 0o777, mtime: Some(MTIME) }),
            order("d/new", None, file(&folder, b"remote")),
            order("d/sub/new", None, file(&folder, b"remote")),
            order("d/dir", None, Put::Dir { mode: 0o755 }),
            order("d/link", None, Put::Symlink { target: b"x".to_vec(), mtime: MTIME }),
        ]
    };
    for outcome in commit(&folder, orders()) {
        let harmless = match &outcome {
            Outcome::LocalChange { found: None, .. } | Outcome::Failed { .. } => true,
            Outcome::Done { info } => info.is_none(),
            _ => false,
        };
        assert!(harmless, "{outcome:?}");
    }
    assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 1);
    let meta = fs::metadata(outside.path().join("f")).expect("there");
    assert_eq!(fs::read(outside.path().join("f")).expect("readable"), b"outside");
    assert_ne!(meta.mtime(), MTIME.secs);
}

#[test]
fn kinds_change_into_each_other() {
    let (dir, folder) = folder();
    let link = |text: &str| Put::Symlink { target: text.as_bytes().to_vec(), mtime: MTIME };
    let mut now = done(one(&folder, order("x", None, file(&folder, b"a file"))));
    now = done(one(&folder, order("x", now, Put::Dir { mode: 0o750 })));
    assert_eq!(fs::metadata(dir.path().join("x")).expect("there").mode() & 0o7777, 0o750);
    now = done(one(&folder, order("x", now, link("/nowhere"))));
    now = done(one(&folder, order("x", now, link("elsewhere"))));
    assert_eq!(fs::read_link(dir.path().join("x")).expect("a link"), PathBuf::from("elsewhere"));
    assert_eq!(now.map(|i| (i.kind, i.mtime)), Some((Kind::Symlink, MTIME)));
    let later = FileTime { secs: 1, nanos: 2 };
    now = done(one(&folder, order("x", now, Put::Meta { mode: 0, mtime: Some(later) })));
    assert_eq!(now.map(|i| i.mtime), Some(later));
    now = done(one(&folder, order("x", now, file(&folder, b"again"))));
    assert_eq!(now, info(&folder, "x"));
    assert_eq!(fs::read(dir.path().join("x")).expect("readable"), b"again");
}

#[test]
fn a_directory_goes_only_when_empty() {
    let (dir, folder) = folder();
    let made = done(one(&folder, order("d", None, Put::Dir { mode: 0o700 })));
    fs::write(dir.path().join("d/ignored"), "local").expect("written");
    assert!(matches!(one(&folder, order("d", made, Put::Remove)), Outcome::NotEmpty { .. }));
    let outcome = one(&folder, order("d", made, file(&folder, b"remote")));
    assert!(matches!(outcome, Outcome::NotEmpty { staged: Some(_) }), "{outcome:?}");
    fs::remove_file(dir.path().join("d/ignored")).expect("removed");
    assert_eq!(done(one(&folder, order("d", made, Put::Remove))), None);
}

#[test]
fn a_directory_keeps_its_setgid_bit_and_gets_the_rest_exactly() {
    let (dir, folder) = folder();
    let d = dir.path().join("d");
    fs::create_dir(&d).expect("made");
    fs::set_permissions(&d, fs::Permissions::from_mode(0o2700)).expect("set");
    let made = info(&folder, "d");
    done(one(&folder, order("d", made, Put::Meta { mode: 0o775, mtime: None })));
    assert_eq!(fs::metadata(&d).expect("there").mode() & 0o7777, 0o2775);
    done(one(&folder, order("d/e", None, Put::Dir { mode: 0o777 })));
    assert_eq!(fs::metadata(d.join("e")).expect("there").mode() & 0o7777, 0o2777);
}

#[test]
fn a_directory_made_for_its_file_gets_its_own_mode_in_the_same_group() {
    let (dir, folder) = folder();
    let outcomes =
        commit(&folder, vec![order("d/f", None, file(&folder, b"x")), order("d", None, Put::Dir { mode: 0o711 })]);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Done { .. })), "{outcomes:?}");
    assert_eq!(fs::metadata(dir.path().join("d")).expect("there").mode() & 0o777, 0o711);
}

#[test]
fn a_directory_without_write_permission_is_filled_and_keeps_its_mode() {
    let (dir, folder) = folder();
    let d = dir.path().join("d");
    done(one(&folder, order("d", None, Put::Dir { mode: 0o555 })));
    let orders = vec![order("d/f", None, file(&folder, b"x")), order("d/e/g", None, file(&folder, b"y"))];
    let infos: Vec<_> = commit(&folder, orders).into_iter().map(done).collect();
    assert_eq!(fs::metadata(&d).expect("there").mode() & 0o777, 0o555);
    done(one(&folder, order("d/f", infos[0], file(&folder, b"z"))));
    done(one(&folder, order("d/f", info(&folder, "d/f"), Put::Remove)));
    assert_eq!(fs::metadata(&d).expect("there").mode() & 0o777, 0o555);
    fs::set_permissions(&d, fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn metadata_alone_changes_without_a_new_file() {
    let (dir, folder) = folder();
    let first = done(one(&folder, order("f", None, file(&folder, b"x"))));
    let later = FileTime { secs: -5, nanos: 7 };
    let second = done(one(&folder, order("f", first, Put::Meta { mode: 0o755, mtime: Some(later) }))).expect("a file");
    assert_eq!((second.mode, second.mtime), (0o755, later));
    assert_eq!(second.inode, first.expect("a file").inode);
    assert!(contents(&dir.path().join(".lanyard/versions")).is_empty());
}

#[test]
fn names_of_255_bytes_and_of_any_byte_are_replaced_and_removed() {
    let (_dir, folder) = folder();
    let long = "n".repeat(255);
    for name in [&long[..], "a\nb~c", " ", "~20260722T123456123Z-0"] {
        let first = done(one(&folder, order(name, None, file(&folder, b"1"))));
        let second = done(one(&folder, order(name, first, file(&folder, b"2"))));
        done(one(&folder, order(name, second, Put::Remove)));
        assert_eq!(info(&folder, name), None);
    }
    let raw = path(b"caf\xe9");
    let staged = stage_small(&folder, b"x").expect("stages");
    let put = Put::File { staged, mode: 0o600, mtime: MTIME };
    done(commit(&folder, vec![CommitOrder::new(raw.clone(), None, put)]).remove(0));
    assert!(scan::info(&folder, &raw).expect("looked").is_some());
}

#[test]
fn a_thousand_small_files_cost_two_flushes() {
    let (dir, _) = folder();
    let flushes = Arc::new(AtomicUsize::new(0));
    let seen = flushes.clone();
    let folder = hooked::folder(dir.path(), move |call| {
        if matches!(call, Call::Flush | Call::FlushAll) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let orders = (0..1000).map(|n| order(&format!("d{}/f{n}", n % 20), None, file(&folder, b"x"))).collect();
    let outcomes = commit(&folder, orders);
    assert!(outcomes.into_iter().all(|o| done(o).is_some()));
    assert_eq!(flushes.load(Ordering::Relaxed), 2);
}

#[test]
fn nothing_is_swapped_in_that_could_not_be_made_durable() {
    let (dir, plain) = folder();
    let first = done(one(&plain, order("f", None, file(&plain, b"first"))));
    let folder = hooked::folder(dir.path(), |call| match call {
        Call::Flush | Call::FlushAll => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    let put = file(&folder, b"remote");
    let outcome = one(&folder, order("f", first, put));
    assert!(matches!(outcome, Outcome::Failed { staged: None, .. }), "{outcome:?}");
    assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"first");
}

/// Stops at the `nth` change of the tree, as a crash would, and looks at what is left.
#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_and_loses_neither() {
    for nth in 0..12 {
        let (dir, plain) = folder();
        let old = done(one(&plain, order("d/f", None, file(&plain, b"old"))));
        let mut left = nth;
        let crashed = Arc::new(AtomicUsize::new(0));
        let seen = crashed.clone();
        let folder = hooked::folder(dir.path(), move |call| {
            if matches!(call, Call::Rename(..) | Call::Remove | Call::Flush | Call::FlushAll) {
                if left == 0 {
                    seen.store(1, Ordering::Relaxed);
                    return Err(io::Error::other("the power is gone"));
                }
                left -= 1;
            }
            Ok(())
        });
        let put = file(&folder, b"new");
        let outcome = one(&folder, order("d/f", old, put));
        let at_path = fs::read(dir.path().join("d/f")).expect("something has the name");

        assert!(at_path == b"old" || at_path == b"new");
        drop(outcome);
        clean(&plain, 0).expect("cleans");
        let kept = contents(dir.path());
        assert!(kept.contains(&b"old".to_vec()), "step {nth}");
        if crashed.load(Ordering::Relaxed) == 0 {
            assert_eq!(at_path, b"new");
            return;
        }
    }
    panic!("the commit takes more steps than expected");
}

#[test]
fn the_holes_of_a_sparse_content_stay_holes() {
    let (dir, folder) = folder();
    let mut content = vec![0; 64 << 20];
    content[20 << 20..][..5].copy_from_slice(b"words");
    let list = chunks_of(&content);
    let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
    let mut offset = 0;
    for record in &list.records {
        if !partial.put_zeros(record, offset) {
            partial.write_at(offset, &content[offset as usize..][..record.bytes as usize]).expect("writes");
        }
        offset += u64::from(record.bytes);
    }
    let put = Put::File { staged: partial.finish().expect("whole"), mode: 0o644, mtime: MTIME };
    done(one(&folder, order("image", None, put)));
    assert_eq!(fs::read(dir.path().join("image")).expect("readable"), content);
    let on_disk = fs::metadata(dir.path().join("image")).expect("a file").blocks() * 512;
    assert!(on_disk < 8 << 20, "{on_disk} bytes for five");
}

#[test]
fn a_large_content_is_put_together_and_swapped_in() {
    let (dir, folder) = folder();
    let mut content = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let list = chunks_of(&content);
    let partial = Partial::open_or_create(&folder, list.id(), list.bytes()).expect("opens");
    let mut offset = 0;
    for record in &list.records {
        let bytes = &content[offset as usize..][..record.bytes as usize];
        partial.write_at(offset, bytes).expect("writes");
        assert_eq!(partial.read_at(offset, bytes.len()).expect("reads"), bytes);
        offset += u64::from(record.bytes);
    }
    let put = Put::File { staged: partial.finish().expect("whole"), mode: 0o444, mtime: MTIME };
    done(one(&folder, order("big", None, put)));
    assert_eq!(fs::read(dir.path().join("big")).expect("readable"), content);
    assert!(contents(&dir.path().join(".lanyard/tmp")).is_empty());
}
