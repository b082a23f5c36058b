//! Whether a name works for the programs of this host, and where it breaks if not.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, ToSocketAddrs, UdpSocket},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};

use super::{Record, Way, port};
use crate::{
    domain::{Problem, Tag, ZONE},
    host::resolver::ResolverFacts,
};

/// How long the C library is waited for: more than the five seconds it gives one server.
const NSS: Duration = Duration::from_secs(8);
/// How long our server is waited for, each of two times.
const SERVER: Duration = Duration::from_millis(500);

/// How the C library finds the addresses of a name.
pub type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// What `getaddrinfo` says.
#[must_use]
pub fn getaddrinfo() -> Lookup {
    Arc::new(|name| Ok((name, 0).to_socket_addrs()?.map(|found| found.ip()).collect()))
}

/// A name to check.
pub struct Check<'a> {
    /// The VM, which runs.
    pub vm: &'a Record,
    /// The home's tag.
    pub tag: &'a Tag,
    /// Where the home's locks are.
    pub run: &'a Path,
    /// The way its name was made known.
    pub way: &'a Way,
    /// How names are resolved here.
    pub facts: &'a ResolverFacts,
}

impl Check<'_> {
    /// What is wrong; nothing if programs and guests find the VM by its name. Blocks, for at most
    /// some ten seconds.
    #[must_use]
    pub fn run(&self, lookup: &Lookup) -> Vec<Problem> {
        let server = self.server();
        let mut problems = Vec::new();
        match self.ask_host(lookup) {
            Ok(found) if found.contains(&self.vm.address.into()) => {}
            Ok(found) => problems.push(self.elsewhere(&found)),
            // Where the server is asked and says nothing, that is all there is to say.
            Err(_) if server.is_err() && *self.way == Way::Resolved => {}
            Err(why) => problems.push(self.unknown(&why)),
        }
        problems.extend(server.err());
        problems
    }

    fn name(&self) -> String {
        format!("{}.{ZONE}", self.vm.name)
    }

    /// What the C library says. On a thread of its own: nothing ends a lookup that hangs.
    fn ask_host(&self, lookup: &Lookup) -> Result<Vec<IpAddr>, String> {
        let (tell, told) = mpsc::channel();
        let (name, lookup) = (self.name(), Arc::clone(lookup));
        thread::spawn(move || tell.send(lookup(&name)));
        match told.recv_timeout(NSS) {
            Ok(Ok(found)) if found.is_empty() => Err("no address".to_owned()),
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", NSS.as_secs())),
        }
    }

    /// What our server says.
    fn server(&self) -> Result<(), Problem> {
        let name = self.name();
        let Some(port) = port(self.run) else {
            let hint =
                "look into the log of a running VM's monitor; restarting that VM tries again";
            return Err(Problem::new("no name server of banger's runs", "no monitor serves", hint));
        };
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let message = ask(at, &name).map_err(|error| {
            let what = format!("banger's name server at {at} does not answer");
            let hint = "see whether a firewall drops packets on lo: sudo nft list ruleset";
            Problem::new(what, error.to_string(), hint)
        })?;
        let found = message.answers.iter().filter_map(|record| record.data.ip_addr());
        if found.into_iter().any(|address| address == IpAddr::V4(self.vm.address)) {
            return Ok(());
        }
        let why = match message.metadata.response_code {
            ResponseCode::NXDomain => "it says that there is no such VM running".to_owned(),
            code => format!("it says: {code}"),
        };
        let hint = format!("see whether {} runs: banger ls", self.vm.name);
        Err(Problem::new(format!("banger's name server does not know {name}"), why, hint))
    }

    /// The host has another answer.
    fn elsewhere(&self, found: &[IpAddr]) -> Problem {
        let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("{} leads to {found}, not to {}", self.name(), self.vm.address);
        let search = &self.facts.search;
        let why = if search.is_empty() {
            "something else on this host knows that name".to_owned()
        } else {
            format!(
                "something else knows that name, perhaps with a search domain ({})",
                search.join(", ")
            )
        };
        let hint = format!("look for it: grep {} /etc/hosts; getent ahosts {0}", self.name());
        Problem::new(what, why, hint)
    }

    /// The host has no answer.
    fn unknown(&self, said: &str) -> Problem {
        let (name, nss) = (self.name(), "/etc/nsswitch.conf");
        let what = format!("programs of this host do not find {name}");
        match self.way {
            Way::Nothing(problem) => Problem::new(what, problem.why.clone(), problem.hint.clone()),
            Way::Resolved if !self.facts.resolved_runs => {
                let hint =
                    "sudo systemctl enable --now systemd-resolved; or names.route = \"hosts\"";
                Problem::new(what, "systemd-resolved does not run any more", hint)
            }
            Way::Resolved if !self.facts.uses_resolved() => {
                let why = format!(
                    "nobody asks systemd-resolved: the line hosts: of {nss} has neither “resolve” nor a \
                     “dns” that leads to it"
                );
                let hint = format!("write “hosts: files resolve [!UNAVAIL=return] dns” in {nss}");
                Problem::new(what, why, hint)
            }
            Way::Resolved => {
                let bridge = self.tag.bridge();
                let why = format!("systemd-resolved does not ask banger's name server ({said})");
                let hint = format!("compare: resolvectl query {name}; resolvectl status {bridge}");
                Problem::new(what, why, hint)
            }
            Way::Hosts if !self.facts.asks("files") => {
                let why =
                    format!("the line hosts: of {nss} has no “files”: nothing reads /etc/hosts");
                Problem::new(what, why, "add “files” to that line")
            }
            Way::Hosts => {
                let why = format!("/etc/hosts does not have it ({said})");
                let hint = format!("restart the VM, and see: grep {name} /etc/hosts");
                Problem::new(what, why, hint)
            }
        }
    }
}

/// Asks a server for a name's address, twice if need be: packets get lost.
fn ask(server: SocketAddrV4, name: &str) -> io::Result<Message> {
    let other = |error: String| io::Error::other(error);
    let name = Name::from_ascii(format!("{name}.")).map_err(|e| other(e.to_string()))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(SERVER))?;
    let mut last = None;
    for id in 1..=2 {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        socket.send(&message.to_vec().map_err(|e| other(e.to_string()))?)?;
        let mut answer = [0; 1_232];
        match socket.recv(&mut answer) {
            Ok(length) => {
                return Message::from_vec(&answer[..length]).map_err(|e| other(e.to_string()));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::Subnet,
        names::{
            NameServer, Settings,
            testing::{Fake, record},
        },
    };

    use super::*;

    fn says(found: Result<&'static str, &'static str>) -> Lookup {
        Arc::new(move |name| {
            assert_eq!(name, "web.vm");
            found.map(|ip| vec![ip.parse().expect("an address")]).map_err(io::Error::other)
        })
    }

    fn facts(nss: &[&str], resolved_runs: bool) -> ResolverFacts {
        let nss = nss.iter().map(|s| (*s).to_owned()).collect();
        ResolverFacts { nss, resolved_runs, ..ResolverFacts::default() }
    }

    struct Home {
        dir: tempfile::TempDir,
        server: Option<NameServer>,
    }

    fn home(net: u8, running: &[(&str, u8)]) -> Home {
        let dir = tempfile::tempdir().expect("temp");
        let settings = Settings {
            run: dir.path().to_owned(),
            tag: Tag::from_bytes([1, 7, net]),
            subnet: Subnet::at(Ipv4Addr::new(127, 31, net, 0)).expect("a subnet"),
            upstreams: Arc::new(Vec::new),
        };
        let server = NameServer::start(settings, Arc::new(Fake::with(running))).expect("a thread");
        server.port_within(Duration::from_secs(30)).expect("it serves");
        Home { dir, server: Some(server) }
    }

    impl Home {
        fn problems(&self, way: &Way, facts: &ResolverFacts, lookup: &Lookup) -> Vec<String> {
            let (vm, tag) = (record("web", 2), Tag::from_bytes([1, 7, 0]));
            let check = Check { vm: &vm, tag: &tag, run: self.dir.path(), way, facts };
            let problems = check.run(lookup);
            assert!(problems.iter().all(|p| !p.hint.is_empty()), "{problems:?}");
            problems.iter().map(|p| format!("{}: {}", p.what, p.why)).collect()
        }
    }

    #[test]
    fn what_works_has_no_problems_and_what_does_not_says_where() {
        let home = home(4, &[("web", 2)]);
        let good = facts(&["files", "resolve", "dns"], true);
        let (right, none) = (says(Ok("172.30.4.2")), says(Err("unknown")));
        let one = |way: &Way, facts: &ResolverFacts, lookup: &Lookup, said: &str| {
            let problems = home.problems(way, facts, lookup);
            assert!(problems.len() == 1 && problems[0].contains(said), "{said}: {problems:?}");
        };
        assert_eq!(home.problems(&Way::Resolved, &good, &right), [""; 0]);
        one(&Way::Resolved, &good, &none, "does not ask banger's name server (unknown)");
        one(&Way::Resolved, &facts(&["files"], true), &none, "has neither “resolve”");
        one(&Way::Resolved, &facts(&["resolve"], false), &none, "does not run any more");
        one(&Way::Hosts, &good, &none, "/etc/hosts does not have it");
        one(&Way::Hosts, &facts(&["dns"], true), &none, "has no “files”");
        let nothing = Way::Nothing(Problem::new("x", "that is why", "do"));
        one(&nothing, &good, &none, "do not find web.vm: that is why");
        one(
            &Way::Hosts,
            &good,
            &says(Ok("10.9.8.7")),
            "web.vm leads to 10.9.8.7, not to 172.30.4.2",
        );
    }

    #[test]
    fn a_server_that_does_not_know_or_does_not_run_is_told_apart() {
        let mut home = home(8, &[("db", 2)]);
        let good = facts(&["files", "resolve"], true);
        let none = says(Err("unknown"));
        let told = home.problems(&Way::Resolved, &good, &none);
        let known =
            "banger's name server does not know web.vm: it says that there is no such VM running";
        assert_eq!(told, [known]);
        home.server.take().expect("it is there").stop();
        let told = home.problems(&Way::Resolved, &good, &none);
        assert_eq!(told, ["no name server of banger's runs: no monitor serves"]);
        assert_eq!(home.problems(&Way::Hosts, &good, &none).len(), 2, "both are wrong");
    }
}
