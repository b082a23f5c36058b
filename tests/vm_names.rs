//! Names of running VMs, answered by whichever monitor has the home's lock for them: when that one
//! is killed, another goes on at the same port. In a network namespace that the test makes; the
//! host's own resolver is told nothing.

mod common;

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    time::Duration,
};

use banger::host::testing::in_own_netns;
use common::{Home, Load, lives, signal, skip, until, until_or};
use nix::sys::signal::Signal;

/// What a name server said: its code (RFC 1035, 4.1.1), and the address.
type Answer = (u8, Option<Ipv4Addr>);

/// Asks the server at this port for a name's address; nothing, if it does not answer for now.
fn ask(port: u16, name: &str) -> Option<Answer> {
    // One question, recursion desired; type A, class IN.
    let mut query = vec![0x1a, 0xb0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len().try_into().expect("a label"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    socket.send(&query).ok()?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).ok()?;
    let reply = &reply[..length];
    assert_eq!(reply[..2], query[..2], "to another question");
    let found = (reply[7] > 0).then(|| {
        let end: [u8; 4] = reply[length - 4..].try_into().expect("four bytes");
        Ipv4Addr::from(end)
    });
    Some((reply[3] & 0xf, found))
}

/// The answer of the server that there is, or that there will be in a moment.
fn answer(home: &Home, port: u16, name: &str) -> Answer {
    until_or(&format!("an answer for {name}"), || ask(port, name), || home.report())
}

/// The port on which the home's names are answered.
fn port(home: &Home) -> u16 {
    let file = home.layout().run.join("names.port");
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    // After who it is that answers.
    let word = text.split_whitespace().last().unwrap_or_default();
    word.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Who listens there.
fn server(port: u16) -> Option<i32> {
    let filter = format!("sport = :{port}");
    let said = Command::new("ss").args(["-Hlunp", &filter]).output().expect("ss");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let pid = said.split("pid=").nth(1)?.split(',').next()?;
    Some(pid.parse().unwrap_or_else(|e| panic!("{said}: {e}")))
}

#[test]
fn when_the_monitor_that_answers_is_killed_another_goes_on_at_the_same_port() {
    let test = "when_the_monitor_that_answers_is_killed_another_goes_on_at_the_same_port";
    let done = in_own_netns(|| {
        let Some(mut home) = Home::with_runtime(test, Load::Heavy) else { return };
        home.set("BANGER_NETWORK", "tap");
        for name in ["web", "db"] {
            home.ok(&["create", name, "--image", "tiny", "--start"]);
        }
        home.ok(&["start", "web", "db", "--wait"]);
        let address = |name: &str| {
            let vm = home.vm(name);
            vm["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
        };
        let addresses = ["web", "db"].map(address);
        let port_before = port(&home);
        for (name, address) in ["web.vm", "db.vm"].into_iter().zip(addresses) {
            assert_eq!(answer(&home, port_before, name), (0, Some(address)), "{name}");
        }

        // Whose it is: that VM goes with it, the other answers from now on.
        let first = server(port_before).expect("somebody listens");
        let command = fs::read(format!("/proc/{first}/cmdline")).expect("its command line");
        let command = String::from_utf8_lossy(&command).into_owned();
        let id = |name: &str| home.vm(name)["id"].as_str().expect("an id").to_owned();
        let webs = command.contains(&id("web"));
        assert!(webs || command.contains(&id("db")), "{command}");
        let ((lost, _), (left, kept)) = {
            let [web, db] = addresses;
            if webs { (("web", web), ("db", db)) } else { (("db", db), ("web", web)) }
        };
        signal(first, Signal::SIGKILL);
        until("its end", || !lives(first));
        let second = until_or(
            "another to listen there",
            || server(port_before).filter(|pid| *pid != first),
            || home.report(),
        );
        assert!(home.monitors().contains(&second), "{second}");
        assert_eq!(answer(&home, port_before, &format!("{left}.vm")), (0, Some(kept)));
        assert_eq!(answer(&home, port_before, &format!("{lost}.vm")), (3, None), "it is gone");
        assert_eq!(port(&home), port_before);
        // Guests ask at the gateway, and are brought to the same port.
        let ping = format!("ping -c 1 -W 20 {left}.vm >/dev/null && echo there");
        assert_eq!(home.ok(&["ssh", left, "--", &ping]), "there\n");

        // One that comes back is known to whoever answers now.
        home.ok(&["start", lost, "--wait"]);
        let (code, found) = answer(&home, port_before, &format!("{lost}.vm"));
        assert_eq!((code, found), (0, addresses.into_iter().find(|address| *address != kept)));
        assert_eq!(server(port_before), Some(second));
        home.ok(&["kill", "web", "db"]);
        home.assert_nothing_runs();
    });
    if let Err(error) = done {
        skip(test, &format!("no network namespace can be made here: {error}"));
    }
}
