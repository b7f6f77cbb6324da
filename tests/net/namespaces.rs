//! Three nodes in three network namespaces on one bridge, with real multicast and without root.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lanyard::shell::net::interfaces::Selection;
use lanyard::shell::rt;
use lanyard::wire::message::Purpose;

use crate::mini::Mini;

/// Makes the namespaces and starts this test program in each, as the node of its number.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add br0 type bridge mcast_snooping 0 forward_delay 0
ip link set br0 up
trap 'kill $(jobs -p) 2>/dev/null' EXIT
for n in 1 2 3; do
  unshare -n sleep 120 & p=$!
  for i in $(seq 1000); do [ "$(readlink /proc/$p/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep .02; done
  ip link add v$n type veth peer name eth0 netns $p
  ip link set v$n master br0 up
  nsenter --net=/proc/$p/ns/net ip link set lo up
  nsenter --net=/proc/$p/ns/net ip addr add 10.9.0.$n/24 dev eth0
  nsenter --net=/proc/$p/ns/net ip link set eth0 up
  eval "p$n=$p"
done
for n in 1 2 3; do
  eval "p=\$p$n"
  LANYARD_TEST_NODE=$n nsenter --net=/proc/$p/ns/net "$0" --exact namespaces::one_node --nocapture &
  nodes="$nodes $!"
done
wait $nodes
"#;

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

#[test]
fn one_node() {
    // Not a test by itself: the next one starts this program inside a namespace.
    let Ok(seed) = std::env::var("LANYARD_TEST_NODE") else { return };
    let seed: u8 = seed.parse().expect("a number");
    println!("node started {}", now_ms());
    rt::block_on(async {
        let mut node = Mini::start(seed, &[1, 2, 3], Selection::default(), mdns_sd::MDNS_PORT);
        let others = [1, 2, 3].into_iter().filter(|n| *n != seed).collect::<Vec<_>>();
        let all = |purpose| {
            let others = others.clone();
            move |node: &Mini| others.iter().all(|n| node.link(*n, purpose).is_some())
        };
        let found = async {
            node.live_until(all(Purpose::Control)).await;
            println!("node linked {}", now_ms());
            node.live_until(all(Purpose::Bulk)).await;
        };
        rt::timeout(Duration::from_secs(60), found).await.expect("all are linked");
        // The others may need this node for a moment longer.
        let _ = rt::timeout(Duration::from_secs(2), node.live_until(|_| false)).await;
        node.stop().await;
    });
    println!("node done {}", now_ms());
}

#[test]
fn three_nodes_in_three_namespaces_find_each_other_and_link_up() {
    let allowed = Command::new("unshare").args(["-Urnm", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("SKIPPED: user namespaces are not allowed here");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut script = Command::new("unshare")
        .args(["-Urnm", "bash", "-c", SCRIPT])
        .arg(program)
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let (mut started, mut linked, mut done) = (Vec::new(), Vec::new(), 0);
    for line in BufReader::new(script.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        let Some((_, words)) = line.split_once("node ") else { continue };
        match words.split_once(' ') {
            Some(("started", at)) => started.push(at.parse::<u128>().expect("a number")),
            Some(("linked", at)) => linked.push(at.parse::<u128>().expect("a number")),
            Some(("done", _)) => done += 1,
            _ => {}
        }
    }
    assert!(script.wait().expect("it ends").success());
    assert_eq!((started.len(), linked.len(), done), (3, 3, 3));
    let last = |times: &[u128]| times.iter().max().copied().expect("three");
    println!("all linked {} ms after the last start", last(&linked) - last(&started));
}
