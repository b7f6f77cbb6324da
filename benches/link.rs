//! Bytes a second over one bulk link on loopback, both ends in this process, as chunks of 256 KiB.
//!
//! Run: `cargo bench --bench link [-- MIB]`. Beside the link it prints what plain TCP does in the same minute, so that
//! the ratio says more than the machine.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use ed25519_dalek::SigningKey;
use lanyard::base::DiscoveryKey;
use lanyard::shell::net::link::Limits;
use lanyard::shell::net::listen::{Bound, Door, Place};
use lanyard::shell::net::{Dialler, Event, Inbound, KeyRing, LinkId};
use lanyard::shell::rt;
use lanyard::wire::codec::{Bytes, Text};
use lanyard::wire::message::{Answer, Content, Hello, Message, Purpose};
use lanyard::wire::versions::Speaks;

const CHUNK_BYTES: usize = 256 * 1024;

fn main() {
    let mib: u64 = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(2048);
    let chunks = mib * 1024 * 1024 / CHUNK_BYTES as u64;
    for _ in 0..3 {
        let plain = plain(chunks);
        let (link, cpu) = rt::block_on(link(chunks));
        let rate = |seconds: f64| mib as f64 / 1024.0 / seconds;
        println!(
            "{mib} MiB: link {link:.2} s ({:.2} GiB/s, {cpu:.2} CPU s), plain TCP {plain:.2} s ({:.2} GiB/s), ratio {:.2}",
            rate(link),
            rate(plain),
            link / plain
        );
    }
}

async fn link(chunks: u64) -> (f64, f64) {
    let ring = KeyRing::new(vec![DiscoveryKey([1; 32])]);
    let [a, b] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let hello = Hello { software: Text::truncated("bench"), purpose: Purpose::Bulk, run: 1, port: 0 };
    let (sender, inbound) = async_channel::bounded(1);
    let door = Door {
        key: b,
        ring: ring.clone(),
        is_member: Arc::new(|_| true),
        hello: hello.clone(),
        speaks: Speaks::default(),
    };
    let listener = Bound::new(Place::Fixed(0)).expect("a free port").serve(door, sender);
    let dialler = Dialler { key: a, ring, is_member: Arc::new(|_| true), hello, speaks: Speaks::default() };
    let addr = ([127, 0, 0, 1], listener.port()).into();
    let dialled = dialler.dial(addr, None, Purpose::Bulk).await.expect("a link");
    let Ok(Inbound::Link(accepted)) = inbound.recv().await else { panic!("no link") };
    let (sender, _own) = async_channel::bounded(4);
    let (taker, incoming) = async_channel::bounded(4);
    let out = dialled.start(LinkId(1), Limits::of(Purpose::Bulk), sender);
    let _in = accepted.start(LinkId(2), Limits::of(Purpose::Bulk), taker);
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let sending = rt::spawn(async move {
        for request in 0..chunks {
            let bytes = Bytes::new(vec![7; CHUNK_BYTES]).expect("fits");
            out.send(Message::Content(Content { request, answer: Answer::Bytes(bytes) })).await.expect("open");
        }
        out
    });
    for _ in 0..chunks {
        let incoming = incoming.recv().await.expect("open");
        assert!(matches!(incoming.event, Event::Message(Message::Content(_))));
    }
    let taken = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    drop(sending.await);
    taken
}

fn plain(chunks: u64) -> f64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut out = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("connects");
    let (mut inc, _) = listener.accept().expect("accepts");
    let started = Instant::now();
    let sending = std::thread::spawn(move || {
        let bytes = vec![7; CHUNK_BYTES];
        for _ in 0..chunks {
            out.write_all(&bytes).expect("open");
        }
    });
    let mut buffer = vec![0; CHUNK_BYTES];
    for _ in 0..chunks {
        inc.read_exact(&mut buffer).expect("open");
    }
    sending.join().expect("no panic");
    started.elapsed().as_secs_f64()
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
