//! Where a request comes from, past the proxies that are trusted to say so.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Whose limit an address counts towards: an IPv4 address, or the network of an IPv6 address, of
/// which its owner has 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }
}

pub(super) fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

/// The address of the client: the peer's own, or, where the peer is a trusted proxy, the last one
/// in `X-Forwarded-For` that no trusted proxy has. What stands before it, the client may have made
/// up.
pub(super) fn client_of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, proxies) {
        return peer;
    }
    let values: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut client = peer;
    for text in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let Some(address) = parse(text.trim()) else { break };
        client = address;
        if !is_trusted(address, proxies) {
            break;
        }
    }
    client
}

/// Some proxies write the port too.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse().ok().map(|at: std::net::SocketAddr| at.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let proxies: Vec<IpNet> = proxies.iter().map(|net| net.parse().unwrap()).collect();
        client_of(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_whom_it_speaks_for() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["198.51.100.7"], &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("10.1.2.3", &["198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(client("10.1.2.3", &[], &["10.0.0.0/8"]), "10.1.2.3");
    }

    #[test]
    fn what_the_client_itself_put_in_front_does_not_count() {
        let proxies = ["10.0.0.0/8"];
        assert_eq!(client("10.1.2.3", &["1.1.1.1, 198.51.100.7"], &proxies), "198.51.100.7");
        let chain = ["1.1.1.1", "198.51.100.7, 10.9.9.9"];
        assert_eq!(client("10.1.2.3", &chain, &proxies), "198.51.100.7");
        assert_eq!(client("10.1.2.3", &["198.51.100.7, nobody"], &proxies), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["198.51.100.7:4711"], &proxies), "198.51.100.7");
        assert_eq!(client("10.1.2.3", &["[2001:db8::1]:4711"], &proxies), "2001:db8::1");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
