use proptest::prelude::*;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDi0+/abcde= dev@work: the laptop";

fn example() -> GuestParams {
    GuestParams {
        network: Some(GuestNetwork {
            address: "10.0.2.15/24".parse().expect("valid"),
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(9, 9, 9, 9)],
            mtu: Some(1420),
        }),
        ssh_key: Some(KEY.parse().expect("valid")),
        modules: Some("/dev/vdb".to_owned()),
        mask: vec!["home.mount".parse().expect("valid"), "var.mount".parse().expect("valid")],
        ..GuestParams::new("web".parse().expect("valid"))
    }
}

/// The problems of a line that is otherwise fine, as the user reads them.
fn problems(words: &str) -> Vec<String> {
    let problems = GuestParams::parse(&format!("banger.host=web {words}")).expect_err(words);
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_command_line_is_what_the_table_says() {
    assert_eq!(
        example().to_cmdline(),
        "root=/dev/vda rootfstype=ext4 rw banger.host=web banger.addr=10.0.2.15/24 \
         banger.gw=10.0.2.2 banger.dns=10.0.2.3,9.9.9.9 banger.mtu=1420 \
         banger.key=ssh-ed25519:AAAAC3NzaC1lZDI1NTE5AAAAIDi0+/abcde=:dev@work%3a%20the%20laptop \
         banger.modules=/dev/vdb systemd.mask=home.mount systemd.mask=var.mount"
    );
}

#[test]
fn it_is_read_back_from_among_the_parameters_of_others() {
    let line = example().compose("console=ttyS0 quiet init=/x ro").expect("fits");
    assert_eq!(GuestParams::parse(&format!("{line} panic=1\n")), Ok(example()));
}

#[test]
fn a_key_survives_the_way_as_it_was() {
    let line = example().to_cmdline();
    let key = GuestParams::parse(&line).expect("valid").ssh_key.expect("a key");
    assert_eq!(key.to_string(), KEY);
}

#[test]
fn a_line_the_kernel_would_cut_off_is_refused() {
    let too_long = example().compose(&"x".repeat(CMDLINE_MAX)).expect_err("too long");
    assert!(too_long.length > CMDLINE_MAX);
}

#[test]
fn each_bad_value_is_a_readable_problem() {
    for (words, start) in [
        ("banger.addr=nonsense", "banger.addr: “nonsense” is not an address with a prefix"),
        ("banger.addr=10.0.2.15", "banger.addr: “10.0.2.15” is not an address with a prefix"),
        ("banger.addr=10.0.2.15/33", "banger.addr: the prefix length 33 is not 1 to 32"),
        ("banger.addr=10.0.2.15/0", "banger.addr: the prefix length 0"),
        ("banger.addr=10.0.2.15/+8", "banger.addr: “10.0.2.15/+8” is not"),
        ("banger.addr=127.0.0.1/8", "banger.addr: 127.0.0.1 cannot be the address"),
        ("banger.addr", "banger.addr: “” is not"),
        ("banger.addr=10.0.2.15/24 banger.gw=x", "banger.gw: “x” is not an IPv4 address"),
        ("banger.addr=10.0.2.15/24 banger.gw=10.0.3.2", "banger.gw: 10.0.3.2 is not in the"),
        ("banger.addr=10.0.2.15/24 banger.dns=", "banger.dns: “” is not an IPv4 address"),
        ("banger.addr=10.0.2.15/24 banger.mtu=1279", "banger.mtu: “1279” is not a number of"),
        ("banger.addr=10.0.2.15/24 banger.mtu=65536", "banger.mtu: “65536” is not a number of"),
        ("banger.addr=10.0.2.15/24 banger.mtu=+1500", "banger.mtu: “+1500” is not a number of"),
        ("banger.mtu=1500", "banger.mtu: is of no use without banger.addr"),
        ("banger.gw=10.0.2.2", "banger.gw: is of no use without banger.addr"),
        ("banger.adress=10.0.2.15/24", "banger.adress: is not known; there are"),
        ("banger.host=again", "banger.host: is given twice"),
        ("banger.key=ssh-ed25519", "banger.key: “ssh-ed25519” is not type:key:comment"),
        ("banger.key=password:AAAA:", "banger.key: “password” is not a type"),
        ("banger.key=ssh-rsa:AAA:", "banger.key: the key is cut off"),
        ("banger.key=ssh-rsa:AA\"A:", "banger.key: the key has a character"),
        ("banger.key=ssh-rsa:AAAA:%0a", "banger.key: the comment of the key has a control"),
        ("banger.key=ssh-rsa:AAAA:%f", "banger.key: “%f” is not a comment in percent"),
        ("banger.modules=vdb", "banger.modules: “vdb” is not a device"),
        ("systemd.mask=../x", "systemd.mask: “../x” is not a unit"),
        ("systemd.mask=.mount", "systemd.mask: “.mount” is not a unit"),
        ("root=UUID=1234", "root: “UUID=1234” is not a device"),
        ("root=/dev/../etc", "root: “/dev/../etc” is not a device"),
        ("rootfstype=", "rootfstype: “” is not a file system type"),
    ] {
        let found = problems(words);
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].starts_with(start), "{words}: {found:?}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let all = GuestParams::parse("banger.addr=x banger.y=1").expect_err("bad");
    let parameters: Vec<_> = all.iter().map(|p| p.parameter.as_str()).collect();
    assert_eq!(parameters, ["banger.addr", "banger.y", "banger.host"]);
}

#[test]
fn a_key_with_options_is_refused() {
    assert!(format!("command=\"x\" {KEY}").parse::<AuthorizedKey>().is_err());
    assert!("".parse::<AuthorizedKey>().is_err());
    assert!(format!("ssh-rsa {}", "A".repeat(1600)).parse::<AuthorizedKey>().is_err());
}

prop_compose! {
    fn any_params()(
        host in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        net in proptest::option::of((1u32..0x7f00_0000, 1u8..=32, any::<bool>(),
            proptest::collection::vec(any::<u32>(), 0..4), proptest::option::of(1280u16..))),
        key in proptest::option::of(("(ssh-rsa|ssh-ed25519|sk-ssh-ed25519@openssh\\.com)",
            "([A-Za-z0-9+/]{4}){1,40}", "\\PC{0,30}")),
        mask in proptest::collection::vec("[a-z@\\\\-]{1,20}\\.(mount|service|timer)", 0..4),
        device in "/dev/[a-z]{1,3}[0-9]?",
        modules in proptest::option::of("/dev/[a-z]{1,3}"),
        read_only in any::<bool>(),
    ) -> GuestParams {
        let network = net.map(|(address, prefix, gateway, dns, mtu)| GuestNetwork {
            address: Ipv4Cidr::new(Ipv4Addr::from_bits(address), prefix).expect("a host's"),
            gateway: gateway.then_some(Ipv4Addr::from_bits(address)),
            dns: dns.into_iter().map(Ipv4Addr::from_bits).collect(),
            mtu,
        });
        let line = |(kind, blob, comment): (String, String, String)| format!("{kind} {blob} {comment}");
        GuestParams {
            hostname: host.parse().expect("a label"),
            network,
            ssh_key: key.map(|key| line(key).parse().expect("a key")),
            modules,
            mask: mask.iter().map(|unit| unit.parse().expect("a unit")).collect(),
            root: RootFs::from_checked(Some(device), None, read_only),
        }
    }
}

proptest! {
    #[test]
    fn what_is_told_is_what_is_read(params in any_params()) {
        prop_assert_eq!(GuestParams::parse(&params.to_cmdline()), Ok(params));
    }

    #[test]
    fn anything_can_be_read(line in "(banger\\.(host|addr|gw|dns|key)=\\PC{0,20} ?|\\PC{0,9} ){0,6}") {
        // Whatever it says: it ends, and problems name their parameter in one line.
        for problem in GuestParams::parse(&line).err().into_iter().flatten() {
            prop_assert!(!problem.parameter.is_empty());
            prop_assert!(!problem.to_string().contains('\n'));
        }
    }
}
