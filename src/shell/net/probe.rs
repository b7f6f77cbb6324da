//! Whether this machine's network does what a node needs: multicast goes out and comes back, a port takes connections.
//!
//! Source: RFC 6762, sections 5.2 and 11: a question is multicast from port 5353 and comes back to every socket that joined
//! the group on this machine, unless something drops it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::interfaces::Selection;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// How long answers are waited for. RFC 6762 section 6 delays them by up to 120 ms; a responder that has just answered
/// keeps silent for a second.
const ANSWERS_MS: u64 = 2_500;
/// The question is asked again after this long, for one datagram may be lost.
const ASK_MS: u64 = 800;
/// How long a connection to this machine itself may take.
const CONNECT_MS: u64 = 2_000;
/// Longest datagram that is read; the rest does not matter.
const DATAGRAM_MAX: usize = 1500;

/// What came of asking by multicast.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Whether the question itself came back.
    pub itself: bool,
    /// Other machines from which anything came.
    pub others: BTreeSet<IpAddr>,
}

/// A question for `_lanyard._tcp.local`, with this number as its own mark. Source: RFC 1035 section 4.1.
fn question(mark: u16) -> Vec<u8> {
    let mut bytes = mark.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["_lanyard", "_tcp", "local"] {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 12, 0, 1]);
    bytes
}

/// Asks by multicast on every interface that counts, and listens. `None` where this machine has no IPv4 network.
pub fn multicast(selection: &Selection) -> io::Result<Option<Heard>> {
    let addresses = selection.addresses()?;
    let own: Vec<Ipv4Addr> =
        addresses.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect();
    if own.is_empty() {
        return Ok(None);
    }
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // The responders of this machine have the port, too.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 5353))?;
    let socket = UdpSocket::from(socket);
    for ip in &own {
        socket.join_multicast_v4(&GROUP, ip)?;
    }
    let asked = question(std::process::id() as u16 | 1);
    let (begin, mut ask_at, mut heard) = (Instant::now(), 0, Heard::default());
    loop {
        let now = begin.elapsed().as_millis() as u64;
        if now >= ANSWERS_MS {
            return Ok(Some(heard));
        }
        if now >= ask_at {
            ask_at = now + ASK_MS;
            for ip in &own {
                sockopt::set_ip_multicast_if(&socket, ip)?;
                socket.send_to(&asked, (GROUP, 5353))?;
            }
        }
        socket.set_read_timeout(Some(Duration::from_millis(ANSWERS_MS.min(ask_at).saturating_sub(now).max(1))))?;
        let mut datagram = [0; DATAGRAM_MAX];
        match socket.recv_from(&mut datagram) {
            Ok((length, from)) if addresses.contains(&from.ip()) => heard.itself |= datagram[..length] == asked[..],
            Ok((_, from)) => drop(heard.others.insert(from.ip())),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if heard.itself && !heard.others.is_empty() {
            return Ok(Some(heard));
        }
    }
}

/// Whether each of this machine's own addresses takes connections on `port`.
pub fn takes_connections(selection: &Selection, port: u16) -> io::Result<bool> {
    let connects = |ip: IpAddr| {
        let at = SocketAddr::new(ip, port);
        TcpStream::connect_timeout(&at, Duration::from_millis(CONNECT_MS)).is_ok()
    };
    Ok(selection.addresses()?.into_iter().all(connects))
}

/// Whether a port is free.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// Of these addresses those on a network of this machine.
pub fn neighbours(selection: &Selection, addresses: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let networks: Vec<(u32, u32)> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|i| selection.takes(&i.name, i.is_loopback()))
        .filter_map(|i| match i.addr {
            if_addrs::IfAddr::V4(v4) => Some((v4.ip.to_bits() & v4.netmask.to_bits(), v4.netmask.to_bits())),
            if_addrs::IfAddr::V6(_) => None,
        })
        .collect();
    let is_near = |at: &&SocketAddr| match at.ip().to_canonical() {
        IpAddr::V4(ip) => networks.iter().any(|(network, mask)| ip.to_bits() & mask == *network),
        IpAddr::V6(_) => false,
    };
    Ok(addresses.iter().filter(is_near).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_what_rfc_1035_says() {
        let bytes = question(7);
        assert_eq!(&bytes[..12], &[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[12..], b"\x08_lanyard\x04_tcp\x05local\x00\x00\x0c\x00\x01");
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        assert!(!is_free(taken.local_addr().expect("bound").port()));
    }
}
