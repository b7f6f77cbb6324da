//! Limits on those who have not proven anything yet: how many at once, and how often from where.
//!
//! Pure bookkeeping in bounded memory; the caller gives the time. A source is an IPv4 address or an IPv6 /64: a host
//! chooses freely within its /64 (RFC 8981).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Connections at once that have proven nothing. Guess: a whole office that comes back after a power cut is 50
/// machines within seconds, each for milliseconds.
const STRANGERS_MAX: usize = 16;
/// Of these from one source.
const STRANGERS_PER_SOURCE_MAX: usize = 8;
/// Attempts that one source may make in a row.
const BURST_MAX: u32 = 32;
/// Milliseconds that give one source another attempt.
const REFILL_MS: u64 = 250;
/// Sources remembered.
const SOURCES_MAX: usize = 256;

/// Who is at the door.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    sources: BTreeMap<IpAddr, Source>,
    at_once: usize,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    tokens: u32,
    refilled_ms: u64,
    at_once: usize,
}

impl Strangers {
    /// Whether a connection from `addr` may try. If so, `leave` must be called once it is done.
    pub(super) fn enter(&mut self, now_ms: u64, addr: IpAddr) -> bool {
        let key = source(addr);
        if self.at_once >= STRANGERS_MAX {
            return false;
        }
        if !self.sources.contains_key(&key) && self.sources.len() >= SOURCES_MAX && !self.forget_one(now_ms) {
            return false;
        }
        let source = self.sources.entry(key).or_insert(Source { tokens: BURST_MAX, refilled_ms: now_ms, at_once: 0 });
        source.refill(now_ms);
        if source.tokens == 0 || source.at_once >= STRANGERS_PER_SOURCE_MAX {
            return false;
        }
        source.tokens -= 1;
        source.at_once += 1;
        self.at_once += 1;
        true
    }

    /// A connection is done. Who proved to be a member gets its attempt back.
    pub(super) fn leave(&mut self, addr: IpAddr, member: bool) {
        self.at_once = self.at_once.saturating_sub(1);
        if let Some(source) = self.sources.get_mut(&source(addr)) {
            source.at_once = source.at_once.saturating_sub(1);
            if member {
                source.tokens = (source.tokens + 1).min(BURST_MAX);
            }
        }
    }

    /// Forgets the source that has been quiet for longest, unless each one is at the door or has attempts to regain.
    fn forget_one(&mut self, now_ms: u64) -> bool {
        for source in self.sources.values_mut() {
            source.refill(now_ms);
        }
        let rested = |s: &&Source| s.at_once == 0 && s.tokens == BURST_MAX;
        let Some(quietest) = self.sources.values().filter(rested).map(|s| s.refilled_ms).min() else { return false };
        self.sources.retain(|_, s| !(s.at_once == 0 && s.tokens == BURST_MAX && s.refilled_ms == quietest));
        true
    }
}

impl Source {
    fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.refilled_ms) / REFILL_MS;
        self.refilled_ms += gained * REFILL_MS;
        self.tokens = self.tokens.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(BURST_MAX);
    }
}

fn source(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn one_source_gets_a_burst_and_then_its_rate() {
        let mut strangers = Strangers::default();
        for _ in 0..BURST_MAX {
            assert!(strangers.enter(0, host(1)));
            strangers.leave(host(1), false);
        }
        assert!(!strangers.enter(0, host(1)));
        assert!(strangers.enter(0, host(2)));
        assert!(!strangers.enter(REFILL_MS - 1, host(1)));
        assert!(strangers.enter(REFILL_MS, host(1)));
    }

    #[test]
    fn only_so_many_are_served_at_once() {
        let mut strangers = Strangers::default();
        let first = (0..20).filter(|_| strangers.enter(0, host(1))).count();
        assert_eq!(first, STRANGERS_PER_SOURCE_MAX);
        let others = (2..40).filter(|n| strangers.enter(0, host(*n))).count();
        assert_eq!(first + others, STRANGERS_MAX);
        strangers.leave(host(1), false);
        assert!(strangers.enter(0, host(50)));
    }

    #[test]
    fn members_are_never_rate_limited() {
        let mut strangers = Strangers::default();
        for _ in 0..10 * BURST_MAX {
            assert!(strangers.enter(0, host(1)));
            strangers.leave(host(1), true);
        }
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_sources_ends_nothing_for_good() {
        let mut strangers = Strangers::default();
        for n in 0..10_000 {
            if strangers.enter(0, host(n)) {
                strangers.leave(host(n), false);
            }
            assert!(strangers.sources.len() <= SOURCES_MAX);
        }
        assert!(strangers.enter(2 * REFILL_MS, host(20_000)));
    }

    #[test]
    fn addresses_of_one_subnet_are_one_source() {
        let a: IpAddr = "2001:db8:1:2::1".parse().expect("an address");
        let b: IpAddr = "2001:db8:1:2:ffff::2".parse().expect("an address");
        let c: IpAddr = "2001:db8:1:3::1".parse().expect("an address");
        assert_eq!(source(a), source(b));
        assert_ne!(source(a), source(c));
        assert_eq!(source("::ffff:10.0.0.1".parse().expect("an address")), host(1));
    }
}
