//! Telling systemd-resolved who knows our names.

use std::{
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    domain::{Problem, Subnet, Tag, ZONE},
    host::call::Call,
};

/// Where `resolvectl` may be. Not the caller's `PATH`: this runs as root for others.
const PLACES: &[&str] = &["/usr/bin", "/bin", "/run/current-system/sw/bin"];
/// How long one call may take; resolved answers at once or is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program that tells systemd-resolved about links.
#[derive(Clone, Debug)]
pub struct Resolvectl {
    program: PathBuf,
    links: PathBuf,
}

impl Resolvectl {
    /// The host's; `None` if there is none.
    #[must_use]
    pub fn find() -> Option<Self> {
        let program = PLACES.iter().map(|dir| Path::new(dir).join("resolvectl"));
        let program = program.into_iter().find(|program| program.is_file())?;
        Some(Self::new(program, PathBuf::from("/sys/class/net")))
    }

    /// This program, on a host that has its links in this directory.
    #[must_use]
    pub const fn new(program: PathBuf, links: PathBuf) -> Self {
        Self { program, links }
    }

    /// See [`route`].
    ///
    /// # Errors
    /// As there.
    pub fn route(&self, tag: &Tag, server: SocketAddrV4, zones: &[String]) -> Result<(), Problem> {
        let bridge = tag.bridge();
        if !self.has(&bridge) {
            let why = format!("there is no {bridge}: the bridge must be there first");
            return Err(problem(&why));
        }
        // `~`: for these names ask this link's server; not: try them behind every name.
        let domains: Vec<String> = zones.iter().map(|zone| format!("~{zone}")).collect();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        // What has no default of its own here would be the host's: a server on loopback signs
        // nothing and speaks no TLS. The server comes last: nothing is asked before all is said.
        let off = ["default-route", "dnssec", "dnsovertls", "llmnr", "mdns"];
        let mut said: Vec<Vec<&str>> = off.iter().map(|what| vec![*what, &bridge, "no"]).collect();
        said.push([&["domain", bridge.as_str()], domains.as_slice()].concat());
        // They take a bus call each and do not depend on each other.
        let calls: Vec<_> = said.iter().map(|args| self.start(args)).collect();
        let ended: Vec<_> = calls.into_iter().map(end).collect();
        ended.into_iter().collect::<Result<(), _>>().map_err(|why| problem(&why))?;
        end(self.start(&["dns", &bridge, &server.to_string()])).map_err(|why| problem(&why))
    }

    /// See [`unroute`].
    ///
    /// # Errors
    /// As there.
    pub fn unroute(&self, tag: &Tag) -> Result<(), Problem> {
        let bridge = tag.bridge();
        if !self.has(&bridge) {
            return Ok(());
        }
        match end(self.start(&["revert", &bridge])) {
            // It went meanwhile, and what was said of it went with it.
            Err(_) if !self.has(&bridge) => Ok(()),
            Err(why) => {
                let hint = format!("say it yourself: sudo resolvectl revert {bridge}");
                Err(Problem::new("cannot take .vm back from systemd-resolved", why, hint))
            }
            Ok(()) => Ok(()),
        }
    }

    fn has(&self, link: &str) -> bool {
        self.links.join(link).exists()
    }

    fn start(&self, args: &[&str]) -> Result<Call, String> {
        Call::start(&self.program, args)
    }
}

fn end(call: Result<Call, String>) -> Result<(), String> {
    call?.end(PATIENCE)
}

fn problem(why: &str) -> Problem {
    let hint = "look at `resolvectl status` (systemd 246 or newer is needed), or set \
                names.route = \"hosts\"";
    Problem::new("cannot tell systemd-resolved about .vm", why, hint)
}

/// Has systemd-resolved ask `server` for `.vm` and for the subnet's addresses: by settings of the
/// bridge's link, which go with the link.
///
/// # Errors
/// If there is no `resolvectl`, no bridge, or resolved does not take it.
pub fn route(tag: &Tag, server: SocketAddrV4, subnet: Subnet) -> Result<(), Problem> {
    let Some(resolvectl) = Resolvectl::find() else {
        return Err(problem(&format!("there is no resolvectl in {}", PLACES.join(", "))));
    };
    resolvectl.route(tag, server, &zones(subnet))
}

/// Has systemd-resolved forget about it. Content if the link is gone, or resolved is.
///
/// # Errors
/// If resolved does not take it.
pub fn unroute(tag: &Tag) -> Result<(), Problem> {
    Resolvectl::find().map_or(Ok(()), |resolvectl| resolvectl.unroute(tag))
}

/// The zones that resolved is told about, without the final dot.
fn zones(subnet: Subnet) -> Vec<String> {
    let reverse = subnet.reverse_zones();
    std::iter::once(ZONE.to_owned()).chain(reverse).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    /// A program that writes down what it is told, and fails where `fails` says.
    fn fake(dir: &Path, fails: &str) -> Resolvectl {
        let program = dir.join("resolvectl");
        let log = dir.join("log");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> '{}'\ncase \"$1\" in {fails}) echo 'Failed: no' >&2; exit 1;; esac\n",
            log.display()
        );
        // Written under another name: a file that is open for writing cannot be executed, and a
        // process that another test forks meanwhile has it open.
        let status = Command::new("sh")
            .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&program)
            .stdin({
                let source = dir.join("source");
                fs::write(&source, script).expect("written");
                fs::File::open(source).expect("a file")
            })
            .status();
        assert!(status.expect("sh").success());
        assert_eq!(fs::metadata(&program).expect("made").permissions().mode() & 0o777, 0o755);
        let links = dir.join("links");
        fs::create_dir_all(links.join("bgr-3fa2c1")).expect("made");
        Resolvectl::new(program, links)
    }

    fn tag() -> Tag {
        "3fa2c1".parse().expect("a tag")
    }

    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 21_000);

    #[test]
    fn resolved_is_told_of_zones_and_of_the_server_last() {
        let dir = tempfile::tempdir().expect("temp");
        let resolvectl = fake(dir.path(), "nothing");
        let zones = zones("172.30.4.0/22".parse().expect("a subnet"));
        resolvectl.route(&tag(), SERVER, &zones).expect("told");
        let log = fs::read_to_string(dir.path().join("log")).expect("a log");
        let mut lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.pop(), Some("dns bgr-3fa2c1 127.0.0.1:21000"));
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "default-route bgr-3fa2c1 no",
                "dnsovertls bgr-3fa2c1 no",
                "dnssec bgr-3fa2c1 no",
                "domain bgr-3fa2c1 ~vm ~4.30.172.in-addr.arpa ~5.30.172.in-addr.arpa \
                 ~6.30.172.in-addr.arpa ~7.30.172.in-addr.arpa",
                "llmnr bgr-3fa2c1 no",
                "mdns bgr-3fa2c1 no",
            ]
        );
    }

    #[test]
    fn what_it_says_is_in_the_problem() {
        let dir = tempfile::tempdir().expect("temp");
        let problem = fake(dir.path(), "domain").route(&tag(), SERVER, &[]).expect_err("refused");
        assert_eq!(problem.why, "resolvectl domain bgr-3fa2c1: Failed: no");
        let log = fs::read_to_string(dir.path().join("log")).expect("a log");
        assert!(!log.lines().any(|l| l.starts_with("dns ")), "no server without zones: {log}");
        assert_eq!(log.lines().count(), 6, "every call is waited for: {log}");
    }

    #[test]
    fn without_the_link_there_is_nothing_to_take_back_and_nothing_to_tell() {
        let dir = tempfile::tempdir().expect("temp");
        let resolvectl = fake(dir.path(), "revert");
        assert_eq!(
            resolvectl.unroute(&tag()).expect_err("it fails").why,
            "resolvectl revert bgr-3fa2c1: Failed: no"
        );
        fs::remove_dir(dir.path().join("links/bgr-3fa2c1")).expect("gone");
        resolvectl.unroute(&tag()).expect("content");
        let problem = resolvectl.route(&tag(), SERVER, &[]).expect_err("no link");
        assert!(problem.why.contains("there is no bgr-3fa2c1"), "{problem}");
    }
}
