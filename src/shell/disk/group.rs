//! A directory that a group of people shares: what anyone makes in it, the others can change.
//!
//! Three things together do it, whatever the umask of a program is: the setgid bit hands the group on, a default ACL of
//! just the three classes stands in for the umask, and directories made inside inherit both.
//!
//! Sources: inode(7) on setgid directories, acl(5) "OBJECT CREATION AND DEFAULT ACLs", linux/posix_acl_xattr.h.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The extended attribute that holds a directory's default ACL.
const DEFAULT_ACL: &str = "system.posix_acl_default";
/// Version 2, then for each class: tag, permissions, no id. Owner and group may do everything, others look.
const FOR_GROUP: [u8; 28] = acl([(0x01, 7), (0x04, 7), (0x20, 5)]);

const fn acl(classes: [(u8, u8); 3]) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[0] = 2;
    let mut at = 0;
    while at < 3 {
        let start = 4 + at * 8;
        bytes[start] = classes[at].0;
        bytes[start + 2] = classes[at].1;
        // The id of a class that has none.
        bytes[start + 4] = 0xff;
        bytes[start + 5] = 0xff;
        bytes[start + 6] = 0xff;
        bytes[start + 7] = 0xff;
        at += 1;
    }
    bytes
}

/// Opens a directory to its group. Where the file system knows no ACLs, the umask of who makes a file decides.
pub fn open_to_group(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode();
    let wanted = mode & 0o7777 | 0o2070;
    if mode & 0o7777 != wanted {
        fs::set_permissions(path, Permissions::from_mode(wanted))?;
    }
    match rustix::fs::setxattr(path, DEFAULT_ACL, &FOR_GROUP, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

/// Takes the default ACL away again; the mode stays.
pub fn close_to_group(path: &Path) -> io::Result<()> {
    match rustix::fs::removexattr(path, DEFAULT_ACL) {
        Err(Errno::OPNOTSUPP | Errno::NODATA | Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_in_an_opened_directory_can_be_changed_by_its_group() {
        let dir = tempfile::tempdir().expect("a directory");
        open_to_group(dir.path()).expect("opened");
        fs::create_dir(dir.path().join("sub")).expect("made");
        let file = dir.path().join("sub/file");
        fs::write(&file, "x").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        assert_eq!(mode(dir.path()) & 0o2770, 0o2770);
        // Whatever the umask of this process is.
        assert_eq!((mode(&dir.path().join("sub")) & 0o2770, mode(&file) & 0o660), (0o2770, 0o660));
        close_to_group(dir.path()).expect("closed");
    }
}
