//! The network: loopback, and the first interface as the parameters say.

use std::path::Path;

use nix::net::if_::if_nametoindex;

use super::{
    Context as _, Fatal,
    netlink::{Request, Route},
    uevent::{DEADLINE, Events},
};
use crate::guest::GuestNetwork;

/// The first interface, as the kernel calls it. It is up before a udev could rename it.
pub const INTERFACE: &str = "eth0";

/// Waits until [`INTERFACE`] is there.
pub fn wait_for_interface(events: &Events) -> Result<(), Fatal> {
    if events.wait(|| Path::new("/sys/class/net").join(INTERFACE).exists()) {
        return Ok(());
    }
    let why = format!("{INTERFACE} did not appear within {} s", DEADLINE.as_secs());
    Err(Fatal::new("there is no network interface for banger.addr", why))
}

/// Takes loopback and the interface up, with its address, its MTU and the default route.
///
/// # Errors
/// If there is no such interface, or the kernel refuses.
pub fn configure(network: &GuestNetwork, interface: &str) -> Result<(), Fatal> {
    let index = |name: &str| if_nametoindex(name).context(|| format!("cannot find {name}"));
    let route = Route::open().context(|| "cannot configure the network")?;
    let ask = |request, what: &dyn Fn() -> String| route.ask(request).context(what);

    ask(Request::link_up(index("lo")?), &|| "cannot take lo up".to_owned())?;
    let index = index(interface)?;
    let address = network.address;
    ask(Request::address(index, address.address(), address.prefix()), &|| {
        format!("cannot give {interface} the address {address}")
    })?;
    if let Some(mtu) = network.mtu {
        ask(Request::mtu(index, mtu), &|| format!("cannot give {interface} the MTU {mtu}"))?;
    }
    ask(Request::link_up(index), &|| format!("cannot take {interface} up"))?;
    if let Some(gateway) = network.gateway {
        ask(Request::default_route(index, gateway), &|| format!("cannot route through {gateway}"))?;
    }
    Ok(())
}
