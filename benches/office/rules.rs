//! Rules: from the moment an admin's command returned until every machine of a larger office has the statement.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{COMMAND_MAX, Lab, eventually};

/// Machines beside the admin's.
const OTHERS: usize = 20;
const STATEMENTS: usize = 20;
/// A statement that is not everywhere by then is lost.
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// Signs rules one after another and looks for each in every other node's audit log.
pub(crate) fn run() {
    println!("\n== a rule is signed in an office of {} machines", OTHERS + 1);
    let Some(lab) = Lab::alone("bench: rules") else { return };
    let hosts: Vec<_> = (0..=OTHERS).map(|_| lab.host()).collect();
    let mut nodes: Vec<_> = hosts.iter().enumerate().map(|(at, host)| host.node(&format!("node-{at}"))).collect();
    nodes[0].mkdir("Shared");
    nodes[0].up(&["Shared"]);
    for at in 1..nodes.len() {
        nodes[at].up(&[]);
        nodes[0].admit(&nodes[at], &[]);
    }
    eventually("all are connected to the admin's", COMMAND_MAX, || {
        nodes[0].sees(&nodes[1..].iter().collect::<Vec<_>>())
    });
    let logs: Vec<PathBuf> = nodes[1..].iter().map(|node| node.home().join("state/audit.jsonl")).collect();
    let mut times = Vec::new();
    for at in 0..STATEMENTS {
        let place = format!("Shared:marker-{at:04}");
        let start = Instant::now();
        nodes[0].lanyard(&["grant", "everyone", &place, "read"]).ok();
        let signed = start.elapsed();
        let mark = format!("marker-{at:04}").into_bytes();
        let has = |log: &PathBuf| fs::read(log).is_ok_and(|all| all.windows(mark.len()).any(|part| part == mark));
        while !logs.iter().all(has) {
            assert!(start.elapsed() < SPREAD_MAX, "statement {at} is not everywhere after {SPREAD_MAX:?}");
            sleep(Duration::from_millis(1));
        }
        times.push((start.elapsed(), signed));
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, signed) = times[times.len() / 2];
    let (last, _) = times[times.len() - 1];
    println!(
        "   lanyard  {STATEMENTS} statements on {OTHERS} nodes: p50 {:.0} ms, max {:.0} ms, with the command itself ({:.0} ms)",
        ms(median),
        ms(last),
        ms(signed)
    );
}
