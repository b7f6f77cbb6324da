//! Nodes find each other by themselves: real multicast, fresh starts, twenty times.

use std::time::{Duration, Instant};

use crate::lab::{Lab, eventually};

/// The promise; printed, and measured on an idle machine by whoever reads it.
const PROMISED: Duration = Duration::from_secs(2);
/// A run in which somebody is not listed by then is broken, not slow.
const BROKEN: Duration = Duration::from_secs(10);
const RUNS: usize = 20;

#[test]
fn each_of_three_nodes_lists_both_others_after_every_start() {
    let Some(lab) = Lab::alone("discovery") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let mut nodes = [h1.node("front-desk"), h2.node("workshop"), h3.node("office")];
    nodes[0].mkdir("Shared");
    for node in &mut nodes {
        node.start(if node.name == "front-desk" { &["Shared"] } else { &[] });
    }
    for node in &mut nodes {
        node.wait_until_up();
    }
    nodes[0].admit(&nodes[1], &[]);
    nodes[0].admit(&nodes[2], &[]);

    let mut times = Vec::new();
    for _ in 0..RUNS {
        for node in &mut nodes {
            node.stop();
        }
        for node in &mut nodes {
            node.start(&[]);
        }
        let start = Instant::now();
        let mut done = [false; 3];
        eventually("each lists both others", BROKEN, || {
            for (i, node) in nodes.iter().enumerate() {
                if !done[i] {
                    let others: Vec<&_> = nodes.iter().filter(|other| other.name != node.name).collect();
                    node.sees(&others)?;
                    done[i] = true;
                }
            }
            Ok(())
        });
        times.push(start.elapsed());
    }

    let within = times.iter().filter(|time| **time <= PROMISED).count();
    times.sort();
    println!("discovery: {within} of {RUNS} within {PROMISED:?}; sorted: {times:.2?}");
}
