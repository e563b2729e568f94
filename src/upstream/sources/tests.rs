//! Connections from several addresses, over real sockets.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(127, 0, 0, last))
}

async fn listener() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    (listener, target)
}

#[actix_rt::test]
async fn connections_leave_from_each_address_in_turn() {
    let (_listener, target) = listener().await;
    let sources = Sources::new(vec![address(2), address(3)]);
    let mut seen = BTreeMap::new();
    for _ in 0..6 {
        let stream = sources.connect(&[target]).await.unwrap();
        *seen.entry(stream.local_addr().unwrap().ip()).or_insert(0) += 1;
    }
    assert_eq!(seen, [(address(2), 3), (address(3), 3)].into());
}

#[actix_rt::test]
async fn an_address_without_a_port_is_passed_over_and_comes_last_for_a_while() {
    let (_listener, target) = listener().await;
    // Of the documentation's range, so no machine has it: the kernel answers as where no port is left.
    let none = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let sources = Sources::new(vec![none, address(3)]);
    for _ in 0..4 {
        let stream = sources.connect(&[target]).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), address(3));
    }
    let order: Vec<_> = sources.in_turn(target).chain(sources.in_turn(target)).map(|it| it.address).collect();
    assert_eq!(order, [address(3), none, address(3), none]);
}

#[actix_rt::test]
async fn where_no_address_has_a_port_the_error_says_what_to_do() {
    let (_listener, target) = listener().await;
    let none = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let error = Sources::new(vec![none]).connect(&[target]).await.unwrap_err();
    let error = awc::error::ConnectError::Io(error);
    let lack = Lack::of(&error).unwrap();
    assert_eq!(lack.what(), Shortage::Ports);
    for part in ["192.0.2.1", &target.to_string(), "upstream.bind_addresses", "ip_local_port_range"] {
        assert!(lack.to_string().contains(part), "{lack}");
    }
}

#[actix_rt::test]
async fn a_service_that_refuses_is_no_shortage() {
    let (listener, target) = listener().await;
    drop(listener);
    for sources in [Sources::default(), Sources::new(vec![address(2)])] {
        let error = sources.connect(&[target]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(Lack::of(&awc::error::ConnectError::Io(error)).is_none());
    }
}

#[actix_rt::test]
async fn a_target_of_another_family_is_named() {
    let error = Sources::new(vec![address(2)]).connect(&["[::1]:9".parse().unwrap()]).await.unwrap_err();
    assert!(error.to_string().contains("upstream.bind_addresses"), "{error}");
}

#[test]
fn the_kernels_words_for_no_descriptor_are_known() {
    for code in [nix::libc::EMFILE, nix::libc::ENFILE] {
        assert_eq!(Shortage::of(&io::Error::from_raw_os_error(code)), Some(Shortage::Descriptors));
    }
    assert_eq!(Shortage::of(&io::Error::from_raw_os_error(nix::libc::ECONNREFUSED)), None);
}
