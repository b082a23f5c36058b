//! What cloud-init in a guest reads: a drive called `cidata` (its "NoCloud" source).
//!
//! Made at each start, as the address may be another one. The user data is the user's, as it
//! came; the network is as our init has set it up already, so that cloud-init neither waits for
//! another nor writes one that would take its place.

mod iso;

use std::{fs, io};

use crate::{
    domain::{VmId, VmName, VmPaths},
    guest::GuestNetwork,
};

/// By this name the drive is found.
const LABEL: &str = "cidata";

/// Makes the drive of a VM that was given user data. False if it was not.
///
/// # Errors
/// If it cannot be read or written.
pub fn make(paths: &VmPaths, id: &VmId, name: &VmName, net: &GuestNetwork) -> io::Result<bool> {
    let user_data = match fs::read(paths.user_data()) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // The instance is the VM: what is done once per instance is done once in its life.
    let meta = format!("instance-id: banger-{id}\nlocal-hostname: {name}\n");
    let network = network(net);
    let files: [(&str, &[u8]); 3] = [
        ("meta-data", meta.as_bytes()),
        ("network-config", network.as_bytes()),
        ("user-data", &user_data),
    ];
    fs::write(paths.seed(), iso::volume(LABEL, &files))?;
    Ok(true)
}

/// The network as cloud-init is told it (network configuration, version 2).
fn network(net: &GuestNetwork) -> String {
    let mut text = format!(
        "version: 2\nethernets:\n  eth0:\n    dhcp4: false\n    addresses: [{}]\n",
        net.address
    );
    if let Some(gateway) = net.gateway {
        text += &format!("    routes:\n      - to: 0.0.0.0/0\n        via: {gateway}\n");
    }
    if let Some(mtu) = net.mtu {
        text += &format!("    mtu: {mtu}\n");
    }
    let servers: Vec<_> = net.dns.iter().map(ToString::to_string).collect();
    if !servers.is_empty() {
        text += &format!("    nameservers:\n      addresses: [{}]\n", servers.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Layout;

    #[test]
    fn without_user_data_there_is_no_drive() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout { state: dir.path().to_owned(), run: dir.path().join("run") };
        let id = VmId::from_bytes([1; 4]);
        let (paths, name) = (layout.vm(&id), "web".parse().expect("a name"));
        let net = GuestNetwork {
            address: "10.9.8.9/22".parse().expect("valid"),
            gateway: Some("10.9.8.1".parse().expect("valid")),
            dns: vec!["10.9.8.1".parse().expect("valid")],
            mtu: Some(1400),
        };
        fs::create_dir_all(paths.dir()).expect("made");
        assert!(!make(&paths, &id, &name, &net).expect("nothing to do"));
        fs::write(paths.user_data(), "#cloud-config\n").expect("written");
        assert!(make(&paths, &id, &name, &net).expect("made"));
        let drive = fs::read(paths.seed()).expect("there");
        let has = |text: &str| drive.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("instance-id: banger-01010101\nlocal-hostname: web\n"));
        assert!(has("#cloud-config\n"));
        assert!(has("    addresses: [10.9.8.9/22]\n    routes:\n      - to: 0.0.0.0/0\n"));
        assert!(has("        via: 10.9.8.1\n    mtu: 1400\n    nameservers:\n"));
    }
}
