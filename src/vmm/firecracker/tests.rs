use super::*;
use crate::{domain::VmId, vmm::Disk};

fn spec() -> MachineSpec {
    MachineSpec {
        vm: VmId::from_bytes([0, 0, 0, 1]),
        vcpus: 1,
        memory_mib: 128,
        kernel: "/rt/vmlinux".into(),
        initrd: "/rt/initrd".into(),
        cmdline: "console=ttyS0 quiet".to_owned(),
        disks: vec![Disk { path: "/dev/dm-0".into(), read_only: false }],
        nics: vec![Nic::Tap { device: "bgt-1".to_owned(), mac: [2, 0, 0, 0, 0, 9] }],
        socket: "/run/x/vmm.sock".into(),
    }
}

#[test]
fn a_launch_is_a_process_and_each_of_its_requests_in_order() {
    let told = Firecracker::new("/rt/firecracker").commands(&spec());
    assert_eq!(
        told[0],
        "/rt/firecracker --id banger-00000001 --api-sock /run/x/vmm.sock --log-path \
         /run/x/vmm.log --level Info --show-level"
    );
    let curl = "curl --unix-socket /run/x/vmm.sock -X PUT http://localhost";
    let paths: Vec<_> = told[1..]
        .iter()
        .map(|line| line.strip_prefix(curl).and_then(|rest| rest.split(' ').next()))
        .map(|path| path.expect("a request"))
        .collect();
    assert_eq!(
        paths,
        [
            "/metrics",
            "/machine-config",
            "/boot-source",
            "/drives/disk0",
            "/network-interfaces/eth0",
            "/vsock",
            "/entropy",
            "/balloon",
            "/actions"
        ]
    );
    assert!(told[3].contains(r#"-d '{"#) && told[3].contains("console=ttyS0 quiet"), "{told:?}");
    assert!(told[9].ends_with(r#"-d '{"action_type":"InstanceStart"}'"#), "{told:?}");
}

#[test]
fn in_a_jail_it_is_the_jailer_that_runs_and_the_socket_is_in_there() {
    let jailer = Jailer::new("/rt/jailer", "/s/jail");
    let jailed = Firecracker::new("/nowhere/firecracker").jailed_by(jailer);
    let told = jailed.commands(&spec());
    assert!(told[0].starts_with("/rt/jailer --id banger-00000001 --uid "), "{told:?}");
    assert!(told[0].contains(" -- --api-sock /run/x/vmm.sock "), "{told:?}");
    let socket = "/s/jail/firecracker/banger-00000001/root/run/x/vmm.sock";
    assert!(told[1].starts_with(&format!("curl --unix-socket {socket} -X PUT ")), "{told:?}");
    assert!(told[4].contains(r#""path_on_host":"/disk0""#), "{told:?}");
}

#[test]
fn orders_are_requests_or_signals_or_nothing() {
    let told = |order| Firecracker::new("/rt/firecracker").told(&spec(), 42, order);
    let paused = r#"-X PATCH http://localhost/vm -d '{"state":"Paused"}'"#;
    assert!(told(Told::Pause).expect("a request").ends_with(paused));
    assert_eq!(told(Told::Kill).as_deref(), Some("kill -KILL 42"));
    assert_eq!(told(Told::Quit), None);
}
