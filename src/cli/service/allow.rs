//! `lanyard service allow`: one more directory for the sandboxed service, and the directory for its group.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::shell::disk::group;
use crate::wire::api::Failure;

use super::super::screen::{plain, shell_word};
use super::super::{Context, Outcome};
use super::steps::{Step, carry_out, output};
use super::{DROP_INS, must_be_root, must_have_systemd, unit};

/// Directories of which the service has its own, empty ones.
const PRIVATE: [&str; 2] = ["/tmp", "/var/tmp"];

pub(super) fn run(context: &Context, path: &Path, remove: bool) -> Outcome {
    must_have_systemd()?;
    must_be_root("change what is allowed to")?;
    if remove {
        return take_back(context, path);
    }
    let shown = plain(&path.to_string_lossy());
    let cannot = || Failure::failed(format!("cannot allow {shown}"));
    let real = path.canonicalize().map_err(|error| cannot().because(&error).hint("make the directory first"))?;
    let text = real.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| cannot().why("systemd takes no path with control characters or that is no UTF-8"))?;
    let found = fs::metadata(&real).map_err(|error| cannot().because(&error))?;
    if !found.is_dir() {
        return Err(cannot().why("it is not a directory").into());
    }
    if PRIVATE.iter().any(|top| real.starts_with(top)) || real.parent().is_none() {
        return Err(cannot()
            .why("the service has its own temporary files, and no use for the whole machine")
            .hint("use a directory under /srv")
            .into());
    }
    let group = Group::of(&found)?;
    let name = match &group {
        Group::Ours(_) => None,
        Group::Other(name) => Some(name.as_str()),
    };
    let drop_in = format!("{DROP_INS}/{}", unit::drop_in_name(text));
    let steps = vec![
        Step::write(&drop_in, &unit::allowing(text, name), "the service may use the directory"),
        Step::run(&["systemctl", "daemon-reload"], "systemd reads it"),
        Step::run(&["systemctl", "try-restart", "lanyard.service"], "the service sees the directory"),
    ];
    let screen = &context.screen;
    let who = name.unwrap_or("lanyard");
    screen.aside(format_args!("{shown} will belong to the group '{who}', which may change what is in it."));
    if let Group::Ours(gid) = group {
        chown(&real, None, Some(gid)).map_err(|error| cannot().because(&error))?;
    }
    group::open_to_group(&real).map_err(|error| cannot().because(&error))?;
    carry_out(screen, steps)?;
    screen.line(format_args!("The service may use {shown}. Now: lanyard share {}", shell_word(text)))?;
    if fs::read_dir(&real).is_ok_and(|mut entries| entries.next().is_some()) {
        let word = shell_word(text);
        screen.line("What is in it already keeps its owners and modes. To open that to the group, too:")?;
        screen.line(format_args!("  chgrp -R {who} {word} && chmod -R g+rwX {word}"))?;
    }
    Ok(())
}

fn take_back(context: &Context, path: &Path) -> Outcome {
    // It may be gone by now.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let drop_in = Path::new(DROP_INS).join(unit::drop_in_name(&real.to_string_lossy()));
    let steps = vec![
        Step::remove(drop_in),
        Step::run(&["systemctl", "daemon-reload"], "systemd forgets it"),
        Step::run(&["systemctl", "try-restart", "lanyard.service"], "the service does not see the directory any more"),
    ];
    let shown = plain(&real.to_string_lossy());
    if !carry_out(&context.screen, steps)? {
        return context.screen.line(format_args!("{shown} was not allowed; nothing to do."));
    }
    context.screen.line(format_args!("The service may not use {shown} any more. Its group, mode and files stay."))
}

/// Whose directory it becomes.
enum Group {
    /// The service's group takes it over.
    Ours(u32),
    /// A group of people that may write there already: the service joins it.
    Other(String),
}

impl Group {
    fn of(found: &fs::Metadata) -> Result<Self, Failure> {
        let named = |gid: &str| {
            let line = output(&["getent", "group", gid]);
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty())?.to_string();
            Some((name, fields.nth(1)?.parse::<u32>().ok()?))
        };
        let ours = named("lanyard");
        let is_of_people = found.gid() != 0 && found.mode() & 0o020 != 0;
        if let Some((name, gid)) = named(&found.gid().to_string()).filter(|_| is_of_people)
            && ours.as_ref().is_none_or(|(_, own)| *own != gid)
        {
            return Ok(Self::Other(name));
        }
        ours.map(|(_, gid)| Self::Ours(gid)).ok_or_else(|| {
            Failure::failed("there is no group 'lanyard'").hint("install the service first: 'lanyard service install'")
        })
    }
}

/// Every directory that was allowed.
pub(super) fn allowed() -> Vec<String> {
    let entries = fs::read_dir(DROP_INS).into_iter().flatten().flatten();
    let mut allowed: Vec<String> =
        entries.filter_map(|entry| unit::allowed_by(&fs::read_to_string(entry.path()).ok()?)).collect();
    allowed.sort();
    allowed
}
