//! Addresses of rules: `all`, `10.0.0.0/8`, `::1/128`, or an address and a mask.

use std::net::IpAddr;

use super::Word;

/// Addresses that agree with one in the bits of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    /// As wide as the address: of IPv4, the last 32 bits.
    mask: u128,
}

impl Network {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        // A client of IPv4 on a socket of IPv6 is one of IPv4.
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4() && (bits(self.address) ^ bits(address)) & self.mask == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What they come to; `None` is every address.
pub(super) fn networks(addresses: &[(Word, Option<String>)]) -> Result<Option<Vec<Network>>, String> {
    let mut networks = Vec::new();
    let mut all = false;
    for (word, mask) in addresses {
        match (word.text.as_str(), mask) {
            ("all", None) if !word.quoted => all = true,
            (text, mask) => networks.push(network(text, mask.as_deref())?),
        }
    }
    Ok((!all).then_some(networks))
}

fn network(text: &str, mask: Option<&str>) -> Result<Network, String> {
    if matches!(text, "samehost" | "samenet") {
        return Err(format!("`{text}` is not supported: write the addresses themselves"));
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let name = address.bytes().any(|byte| byte.is_ascii_alphabetic()) && !address.contains(':');
        let why =
            if name { "names of hosts are not supported, write addresses" } else { "it is no IP address" };
        return Err(format!("the address `{text}`: {why}"));
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let all = u128::MAX >> (128 - width);
    let mask = match (prefix, mask) {
        (Some(prefix), None) => {
            let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let length = prefix.parse::<u32>().ok().filter(|length| digits && *length <= width);
            let length =
                length.ok_or_else(|| format!("the address `{text}`: `/` needs 0 to {width} behind it"))?;
            all & !all.checked_shr(length).unwrap_or(0)
        }
        (None, Some(mask)) => {
            let parsed = mask.parse::<IpAddr>().ok().filter(|mask| mask.is_ipv4() == address.is_ipv4());
            bits(parsed.ok_or_else(|| format!("`{mask}` is no mask of `{text}`"))?)
        }
        (Some(_), Some(_)) => return Err(format!("the address `{text}` has a mask already")),
        (None, None) => {
            return Err(format!(
                "the address `{text}` needs a mask, such as `{text}/{width}` for itself alone"
            ));
        }
    };
    Ok(Network { address, mask })
}
