//! Addresses that must be this machine's own.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
};

use super::{
    reader::Section,
    tree::{Node, Value},
};

/// More than any machine needs: a connection that finds all of them used up asks the kernel once for each.
const MAX_ADDRESSES: usize = 64;

const EXPECTED: &str = "a list of IP addresses of this machine, such as [\"10.0.0.5\", \"10.0.0.6\"]";

impl Section<'_> {
    /// A list of addresses that are this machine's own, each once.
    pub(super) fn local_addresses(&self, key: &'static str) -> Vec<IpAddr> {
        let items = self.value(key, |node| match &node.value {
            Value::Array(items) if items.len() > MAX_ADDRESSES => {
                Err(format!("has {} addresses; at most {MAX_ADDRESSES} are allowed", items.len()))
            }
            Value::Array(items) => Ok(items),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Table(_) => Err(format!("is {}, but must be {EXPECTED}", node.value.kind())),
        });
        let mut addresses = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            match local_address(item, &addresses) {
                Ok(address) => addresses.push(address),
                Err(text) => {
                    self.report.mistake(&item.place, &self.path_of(&format!("{key}[{index}]")), text);
                }
            }
        }
        addresses
    }
}

fn local_address(item: &Node, before: &[IpAddr]) -> Result<IpAddr, String> {
    let Some(text) = item.text() else {
        return Err(format!("is {}, but must be an IP address", item.value.kind()));
    };
    let address: IpAddr =
        text.parse().map_err(|_| format!("\"{}\" is no IP address", text.escape_debug()))?;
    if before.contains(&address) {
        return Err(format!("{address} stands in the list twice; name each address once"));
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is no address that a connection can leave from"));
    }
    // Asked of the kernel with a socket that sends nothing.
    match UdpSocket::bind((address, 0)) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Err(format!(
            "{address} is not an address of this machine; add it to an interface (ip address add), or leave it out"
        )),
        // Another failure says nothing of the address.
        Ok(_) | Err(_) => Ok(address),
    }
}
