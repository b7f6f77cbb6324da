//! What chunk sizes cost and save: the figures of `docs/decisions/0001-chunks.md`.
//!
//! `cargo bench --bench chunks`. Cuts 256 MiB of noise, puts in one byte at each of 16 places, cuts again, and counts
//! what a holder of the first would have to fetch for each; then the time of cutting and of cutting with hashing, alternated, best of three.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use fastcdc::v2020::FastCDC;

const BYTES: usize = 256 * 1024 * 1024;
const EDITS: usize = 16;
const ROUNDS: usize = 3;
const SIZES: &[(usize, usize, usize)] = &[(16, 64, 256), (64, 256, 1024), (256, 1024, 4096)];

fn main() {
    let mut noise = vec![0; BYTES];
    blake3::Hasher::new().update(b"lanyard chunk bench").finalize_xof().fill(&mut noise);
    let mut edited = noise.clone();
    for edit in (0..EDITS).rev() {
        edited.insert(BYTES / EDITS * edit + BYTES / EDITS / 3, 7);
    }

    println!("sizes in KiB   chunks per GiB   fetched for one byte   cutting   with hashing");
    for (min, average, max) in SIZES.iter().map(|(a, b, c)| (a * 1024, b * 1024, c * 1024)) {
        let cut = |bytes: &[u8]| -> Vec<(usize, usize)> {
            FastCDC::new(bytes, min, average, max).map(|chunk| (chunk.offset, chunk.length)).collect()
        };
        let hashed = |bytes: &[u8]| -> Vec<(blake3::Hash, usize)> {
            cut(bytes).into_iter().map(|(at, length)| (blake3::hash(&bytes[at..at + length]), length)).collect()
        };
        let held: BTreeSet<[u8; 32]> = hashed(&noise).iter().map(|(hash, _)| *hash.as_bytes()).collect();
        let fetched: usize =
            hashed(&edited).iter().filter(|(hash, _)| !held.contains(hash.as_bytes())).map(|(_, length)| length).sum();
        let (mut cutting, mut hashing) = (f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            cutting = cutting.min(seconds(|| cut(&noise).len()));
            hashing = hashing.min(seconds(|| hashed(&noise).len()));
        }
        let gib = BYTES as f64 / f64::from(1 << 30);
        println!(
            "{:>5}/{:>4}/{:>4} {:>14.0} {:>18} KiB {:>11.1} GiB/s {:>7.1} GiB/s",
            min / 1024,
            average / 1024,
            max / 1024,
            cut(&noise).len() as f64 / gib,
            fetched / EDITS / 1024,
            gib / cutting,
            gib / hashing,
        );
    }
}

fn seconds(work: impl FnOnce() -> usize) -> f64 {
    let began = Instant::now();
    black_box(work());
    began.elapsed().as_secs_f64()
}
