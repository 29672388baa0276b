//! Which addresses a job of somebody else may reach: those of the open network, and none of the machine, its network or its cloud.
//!
//! A name is looked at by what it resolves to, all of it, and by whatever form an address hides in. Who checks a name and lets
//! somebody else resolve it again has checked nothing: [`Guard`] gives a client the very addresses that were checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whom connections may be made to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Whoever is named.
    #[default]
    Anywhere,
    /// Hosts of the open network only.
    Public,
}

/// Returns what kind of address it is, if it is none of the open network.
pub fn private(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => private_v4(address),
        IpAddr::V6(address) => private_v6(address),
    }
}

fn private_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("loopback"),
        [0, ..] => Some("unspecified"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [169, 254, ..] => Some("link-local"),
        [100, 64..=127, ..] => Some("shared by a carrier"),
        [192, 0, 0, _] | [198, 18..=19, ..] => Some("for protocols and tests"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documentation"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let within = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_loopback() => Some("loopback"),
        // Addresses of the other kind in disguise: compatible, mapped, translated, NAT64, 6to4.
        (0, 0) if [c, d, e] == [0, 0, 0] && (f == 0 || f == 0xffff) => within(g, h),
        (0, 0) if [c, d, e, f] == [0, 0, 0xffff, 0] => within(g, h),
        (0x0064, 0xff9b) if [c, d, e, f] == [0, 0, 0, 0] => within(g, h),
        (0x2002, _) => within(b, c),
        (0x0064, 0xff9b) => Some("of a local translator"),
        (0x2001, 0) => Some("a tunnel"),
        (0x2001, 0x0db8) | (0x3fff, _) => Some("for documentation"),
        (0x0100, 0) => Some("discarded"),
        (0xfc00..=0xfdff, _) => Some("private"),
        (0xfe80..=0xfebf, _) => Some("link-local"),
        (0xfec0..=0xfeff, _) => Some("site-local"),
        (0xff00..=0xffff, _) => Some("multicast"),
        _ => None,
    }
}

/// Refuses a host if any of the addresses that it resolved to is none of the open network. An error says which.
pub fn check(host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), String> {
    for address in addresses {
        if let Some(kind) = private(address) {
            let is =
                if host == address.to_string() { "is".to_owned() } else { format!("resolves to {address}, which is") };
            return Err(format!("`{host}` {is} no address of the open network but {kind}"));
        }
    }
    Ok(())
}

/// Resolves names for an HTTP client, and gives it only what was checked.
#[derive(Debug)]
pub struct Guard;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            check(&name, found.iter().map(SocketAddr::ip))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Has an HTTP client reach no further than `reach`: it connects to what was checked, goes where nobody sends it, and past no proxy.
pub fn held(builder: reqwest::ClientBuilder, reach: Reach) -> reqwest::ClientBuilder {
    match reach {
        Reach::Anywhere => builder,
        Reach::Public => builder.dns_resolver(Arc::new(Guard)).redirect(reqwest::redirect::Policy::none()).no_proxy(),
    }
}

/// Checks the host of a URL that is an address: a client resolves no name for one.
pub fn check_literal(url: &reqwest::Url, reach: Reach) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match (reach, address) {
        (Reach::Public, Some(address)) => check(host, [address]),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_a_machine_its_network_or_its_cloud_is_public_in_any_disguise() {
        for address in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "64:ff9b:1::1",
            // Mapped, compatible, translated, NAT64, 6to4: of 127.0.0.1, 10.0.0.1 and 169.254.169.254.
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:0a00:0001::",
        ] {
            assert!(private(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
            "2a00:1450:4001::1",
        ] {
            assert_eq!(private(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn one_address_of_many_is_enough_to_refuse_a_name() {
        let addresses = ["1.1.1.1", "10.0.0.7"].map(|address| address.parse().unwrap());
        let said = check("db.example", addresses).unwrap_err();
        assert!(said.contains("`db.example` resolves to 10.0.0.7") && said.contains("private"), "{said}");
        assert_eq!(check("db.example", addresses[..1].to_vec()), Ok(()));
    }

    #[test]
    fn a_client_does_not_connect_where_it_may_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        rustls::crypto::ring::default_provider().install_default().ok();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = held(reqwest::Client::builder(), Reach::Public).build().unwrap();
        let asked = runtime.block_on(client.get(format!("http://localhost:{port}/")).send()).unwrap_err();
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&asked);
        while let Some(error) = cause {
            text.push_str(&error.to_string());
            cause = error.source();
        }
        assert!(text.contains("loopback"), "{text}");
        assert!(listener.accept().is_err(), "somebody connected");
        for url in ["http://127.0.0.1:1/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/"] {
            let url = reqwest::Url::parse(url).unwrap();
            assert!(
                check_literal(&url, Reach::Public).is_err() && check_literal(&url, Reach::Anywhere).is_ok(),
                "{url}"
            );
        }
    }
}
