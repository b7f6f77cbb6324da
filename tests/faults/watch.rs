//! A machine on which no more directories can be watched: changes are found by looking, and the status says what to do.

use std::fs;
use std::time::Duration;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;

#[test]
fn where_no_more_can_be_watched_changes_are_found_by_looking_and_that_is_said() {
    let Some(lab) = Lab::open("watch limit") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    for n in 0..60 {
        fs::create_dir(here.join(format!("d{n}"))).expect("a directory");
    }
    // In a namespace of users of its own, so that the limit is this node's alone.
    let limited = "echo 40 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    a.under = ["unshare", "-Ur", "sh", "-c", limited, "sh"].map(str::to_owned).to_vec();
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("it is said", CONVERGE_MAX, || {
        let status = a.lanyard(&["status"]).ok().stdout;
        if status.contains("max_user_watches") { Ok(()) } else { Err(status) }
    });
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    for n in 0..60 {
        fs::write(here.join(format!("d{n}/file")), "found by looking").expect("a file");
    }
    eventually("they are found", Duration::from_secs(120), || {
        let arrived = (0..60).filter(|n| there.join(format!("d{n}/file")).exists()).count();
        if arrived == 60 { Ok(()) } else { Err(format!("{arrived} of 60")) }
    });
}
