//! Names of users and groups, as the files `/etc/passwd` and `/etc/group` have them.
//!
//! Source: passwd(5), group(5). Root is nobody's name here, neither as user nor as group: what a member says gives no file to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::wire::batch::Owner;
use crate::wire::codec::Text;

/// Most bytes of one of the files that are read. A guess: far above the people of an office.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a file shows whose user or group this process cannot see. Source: Linux `user_namespaces(7)`, `overflowuid`.
const UNSEEN: u32 = 65_534;

/// The users and groups of this machine.
#[derive(Clone, Debug)]
pub struct Users {
    users: Names,
    groups: Names,
}

#[derive(Clone, Debug)]
struct Names {
    file: PathBuf,
    /// Length and time of the file that was read.
    stamp: Option<(u64, std::time::SystemTime)>,
    by_name: BTreeMap<String, u32>,
    by_id: BTreeMap<u32, String>,
}

impl Default for Users {
    fn default() -> Self {
        Self::of(Path::new("/etc/passwd"), Path::new("/etc/group"))
    }
}

impl Users {
    /// Those of other files.
    pub fn of(users: &Path, groups: &Path) -> Self {
        let names =
            |file: &Path| Names { file: file.into(), stamp: None, by_name: BTreeMap::new(), by_id: BTreeMap::new() };
        Self { users: names(users), groups: names(groups) }
    }

    /// Takes up what has changed in the files since.
    pub fn refresh(&mut self) {
        self.users.refresh();
        self.groups.refresh();
    }

    /// The names of these numbers; empty where one has none. A service in its own user namespace sees few.
    pub fn names(&self, (user, group): (u32, u32)) -> Owner {
        let name = |names: &Names, id| {
            let seen = names.by_id.get(&id).filter(|_| id != UNSEEN);
            seen.and_then(|name| Text::new(name.as_str())).unwrap_or_default()
        };
        Owner { user: name(&self.users, user), group: name(&self.groups, group) }
    }

    /// The numbers of these names, where they have one that may be given to.
    pub fn ids(&self, owner: &Owner) -> (Option<u32>, Option<u32>) {
        let id = |names: &Names, name: &str| names.by_name.get(name).copied().filter(|id| *id != 0);
        (id(&self.users, &owner.user), id(&self.groups, &owner.group))
    }
}

impl Names {
    fn refresh(&mut self) {
        let stamp = fs::metadata(&self.file).and_then(|found| Ok((found.len(), found.modified()?))).ok();
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        let mut text = String::new();
        let read = fs::File::open(&self.file).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        if read.is_err() {
            return;
        }
        self.stamp = stamp;
        (self.by_name, self.by_id) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) else {
                continue;
            };
            if name.is_empty() || name.starts_with(['#', '+', '-']) {
                continue;
            }
            // The first of a name or number counts.
            self.by_name.entry(name.to_owned()).or_insert(id);
            self.by_id.entry(id).or_insert_with(|| name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_numbers_and_none_stands_for_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let (passwd, group) = (dir.path().join("passwd"), dir.path().join("group"));
        let text = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nann:x:1001:50::/:/bin/sh\nnobody:x:65534:65534::/:\nbroken\n#no:x:7:7\n";
        fs::write(&passwd, text).expect("written");
        fs::write(&group, "root:x:0:\noffice:x:50:ann\n").expect("written");
        let mut users = Users::of(&passwd, &group);
        users.refresh();
        let owner = |user: &str, group: &str| Owner {
            user: Text::new(user).expect("short"),
            group: Text::new(group).expect("short"),
        };
        assert_eq!(users.names((1001, 50)), owner("ann", "office"));
        assert_eq!(users.names((0, 77)), owner("root", ""));
        assert_eq!(users.names((UNSEEN, 50)), owner("", "office"));
        assert_eq!(users.ids(&owner("ann", "office")), (Some(1001), Some(50)));
        assert_eq!(users.ids(&owner("root", "root")), (None, None));
        assert_eq!(users.ids(&owner("1001", "")), (None, None), "a number is no name");

        fs::write(&passwd, "bob:x:1002:50::/:/bin/sh\n").expect("written");
        users.refresh();
        assert_eq!(users.ids(&owner("bob", "office")), (Some(1002), Some(50)));
        assert_eq!(users.ids(&owner("ann", "office")), (None, Some(50)));
    }
}
