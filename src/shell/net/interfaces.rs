//! Network interfaces: which ones count, what their addresses are, and when that changes.
//!
//! Changes are told by the kernel: addresses by a netlink socket (rtnetlink(7)), the end of a suspend by a timer that
//! is cancelled when the clocks are set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`). Nothing is polled.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_channel::Sender;
use async_io::Async;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::shell::rt;

/// Names of interfaces that containers and virtual machines make, as the beginning of a name; what is behind them
/// is this machine. Bridges of the office (`br0`) are not among them: docker calls its own `br-` and a number.
pub const IGNORED: [&str; 6] = ["docker", "br-", "veth", "virbr", "cni", "podman"];

/// Groups of messages: links, IPv4 addresses, IPv6 addresses (`RTMGRP_*` of linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Changes come in bursts (link, address, route); what happens within this is one change.
const SETTLE_MS: u64 = 200;
/// The boot clock runs on while the machine sleeps. More than this beyond the running clock was a sleep, less is the
/// time between reading the two.
const SLEPT_MS_MIN: i64 = 1_000;

/// Which interfaces count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// Whether loopback counts: for several nodes on one machine.
    pub loopback: bool,
    /// Interfaces whose name begins so do not count.
    pub ignored: Vec<String>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { loopback: false, ignored: IGNORED.map(String::from).to_vec() }
    }
}

impl Selection {
    /// Whether an interface counts.
    pub fn takes(&self, name: &str, loopback: bool) -> bool {
        if loopback { self.loopback } else { !self.ignored.iter().any(|ignored| name.starts_with(ignored.as_str())) }
    }

    /// The addresses of this machine that others may reach; IPv6 addresses of one link only are left out.
    pub fn addresses(&self) -> io::Result<BTreeSet<IpAddr>> {
        let all = if_addrs::get_if_addrs()?;
        let counts = all.into_iter().filter(|i| self.takes(&i.name, i.is_loopback()) && i.is_oper_up());
        Ok(counts.map(|i| i.ip()).filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect())
    }
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// An address or interface came or went.
    Addresses,
    /// The machine was suspended and runs again.
    Resumed,
}

/// Sends what changes to `changes` until its receiver is gone. Fails if the kernel gives no such news.
pub fn watch(selection: Selection, changes: Sender<Changed>) -> io::Result<()> {
    let netlink = netlink()?;
    let timer = cancelled_timer()?;
    let resumed = changes.clone();
    rt::spawn(async move {
        if let Err(error) = watch_addresses(&netlink, &selection, &changes).await {
            tracing::warn!(%error, "changes of network interfaces are not noticed any more");
        }
    });
    rt::spawn(async move {
        if let Err(error) = watch_clock(&timer, &resumed).await {
            tracing::warn!(%error, "the end of a suspend is not noticed any more");
        }
    });
    Ok(())
}

fn netlink() -> io::Result<Async<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Async::new(socket)
}

/// Every address with its interface; what a change is measured by.
fn snapshot(selection: &Selection) -> BTreeSet<(String, IpAddr)> {
    // An unreadable list is an empty one; the next change reads it again.
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let counts = all.into_iter().filter(|i| selection.takes(&i.name, i.is_loopback()) && i.is_oper_up());
    counts.map(|i| (i.name.clone(), i.ip())).collect()
}

async fn watch_addresses(socket: &Async<OwnedFd>, selection: &Selection, changes: &Sender<Changed>) -> io::Result<()> {
    let mut known = snapshot(selection);
    loop {
        hear(socket).await?;
        rt::sleep(Duration::from_millis(SETTLE_MS)).await;
        let now = snapshot(selection);
        if now != known {
            known = now;
            if changes.send(Changed::Addresses).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Waits for a message and drops it: that there was one is all.
async fn hear(socket: &Async<OwnedFd>) -> io::Result<()> {
    let heard = socket.read_with(|fd| {
        let mut message = [0_u8; 4096];
        Ok(rustix::net::recv(fd, &mut message[..], RecvFlags::DONTWAIT).map(|_| ())?)
    });
    match heard.await {
        // Too many changes at once to be told one by one: a change all the same.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// A timer that never ends but is cancelled when the wall clock is set, which a resume does.
fn cancelled_timer() -> io::Result<Async<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    arm(&timer)?;
    Async::new(timer)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::from(u32::MAX), tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &once)?;
    Ok(())
}

async fn watch_clock(timer: &Async<OwnedFd>, changes: &Sender<Changed>) -> io::Result<()> {
    let mut slept = slept_ms();
    loop {
        let rung = timer.read_with(|fd| Ok(rustix::io::read(fd, &mut [0_u8; 8][..]).map(|_| ())?)).await;
        match rung {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        arm(timer.get_ref())?;
        let now = slept_ms();
        // A clock that was only set, by a person or by NTP, is no resume.
        if now - slept >= SLEPT_MS_MIN && changes.send(Changed::Resumed).await.is_err() {
            return Ok(());
        }
        slept = now;
    }
}

/// Milliseconds that this machine has slept since it was booted.
fn slept_ms() -> i64 {
    let ms = |t: Timespec| t.tv_sec * 1000 + t.tv_nsec / 1_000_000;
    ms(clock_gettime(ClockId::Boottime)) - ms(clock_gettime(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_ignored_and_the_offices_own_bridges_are_not() {
        let usual = Selection::default();
        for ignored in ["docker0", "br-1a2b3c", "veth12", "virbr0", "cni0", "podman1"] {
            assert!(!usual.takes(ignored, false), "{ignored}");
        }
        for taken in ["eth0", "enp3s0", "wlan0", "wlp2s0", "br0", "bond0", "vlan10"] {
            assert!(usual.takes(taken, false), "{taken}");
        }
        assert!(!usual.takes("lo", true));
        assert!(Selection { loopback: true, ..usual }.takes("lo", true));
    }

    #[test]
    fn the_kernel_gives_the_sockets_that_watch_it() {
        rt::block_on(async {
            let (sender, receiver) = async_channel::bounded(1);
            watch(Selection::default(), sender).expect("netlink and timerfd");
            assert!(receiver.is_empty());
        });
    }
}
