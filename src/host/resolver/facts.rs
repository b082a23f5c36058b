//! What resolves names here.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::unix::net::UnixStream,
    path::Path,
};

/// The addresses of systemd-resolved's stub (systemd-resolved.service(8)).
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];
/// The socket on which systemd-resolved takes the questions of nss-resolve.
const RESOLVED: &str = "run/systemd/resolve/io.systemd.Resolve";
/// The servers that systemd-resolved itself asks.
const UPLINK: &str = "run/systemd/resolve/resolv.conf";
/// Name servers that are looked at (`MAXNS` of resolv.h).
const SERVERS_MAX: usize = 3;

/// How names are resolved on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverFacts {
    /// Who the C library asks about hosts, in order: `files`, `resolve`, `dns` (nsswitch.conf(5)).
    pub nss: Vec<String>,
    /// The name servers of `/etc/resolv.conf`, as written.
    pub servers: Vec<String>,
    /// Domains of `/etc/resolv.conf` that are tried behind a name.
    pub search: Vec<String>,
    /// Whether systemd-resolved answers.
    pub resolved_runs: bool,
}

impl ResolverFacts {
    /// Whether `name` is among those that the C library asks.
    #[must_use]
    pub fn asks(&self, name: &str) -> bool {
        self.nss.iter().any(|service| service == name)
    }

    /// Whether `/etc/resolv.conf` leads to systemd-resolved.
    #[must_use]
    pub fn has_stub(&self) -> bool {
        self.servers.iter().any(|server| STUBS.contains(&server.as_str()))
    }

    /// Whether what systemd-resolved knows is what programs get told.
    #[must_use]
    pub fn uses_resolved(&self) -> bool {
        self.resolved_runs && (self.asks("resolve") || self.asks("dns") && self.has_stub())
    }
}

/// How names are resolved on the host whose file system begins at `root` (that is `/`).
#[must_use]
pub fn facts(root: &Path) -> ResolverFacts {
    let resolv = read(&root.join("etc/resolv.conf"));
    ResolverFacts {
        nss: nss(&read(&root.join("etc/nsswitch.conf"))),
        servers: words(&resolv, "nameserver").into_iter().take(SERVERS_MAX).collect(),
        // The last of several lines counts (resolv.conf(5)).
        search: last_line(&resolv, "search"),
        resolved_runs: UnixStream::connect(root.join(RESOLVED)).is_ok(),
    }
}

/// The servers that a program of this host would ask, without those of which `ours` says so. On the
/// host, systemd-resolved's stub is a server like any other, and knows what goes through a VPN.
#[must_use]
pub fn upstreams(root: &Path, ours: impl Fn(IpAddr) -> bool) -> Vec<SocketAddr> {
    ["etc/resolv.conf", UPLINK]
        .iter()
        .map(|file| {
            let servers = words(&read(&root.join(file)), "nameserver");
            servers
                .iter()
                .filter_map(|server| address(server))
                .filter(|server| !ours(server.ip()))
                .take(SERVERS_MAX)
                .collect::<Vec<_>>()
        })
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// What is not there, or no text, says nothing.
fn read(path: &Path) -> String {
    let read = || -> io::Result<String> { Ok(String::from_utf8_lossy(&fs::read(path)?).into()) };
    read().unwrap_or_default()
}

/// The services of the line `hosts:`; if there is none, what the C library takes then.
fn nss(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
    let line = line.map_or("files dns", |line| line.split('#').next().unwrap_or(""));
    let mut services = Vec::new();
    let mut in_action = false;
    for word in line.split_whitespace() {
        in_action |= word.starts_with('[');
        if !in_action {
            services.push(word.to_owned());
        }
        in_action &= !word.ends_with(']');
    }
    services
}

/// The first word behind each `key`.
fn words(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    let behind = lines.filter(|rest| rest.starts_with([' ', '\t']));
    behind.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
}

/// The words of the last line that begins with `key`.
fn last_line(text: &str, key: &str) -> Vec<String> {
    let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(key));
    let line = line.filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or("");
    // The root is what resolved writes where there is none.
    line.split_whitespace().filter(|word| *word != ".").map(str::to_owned).collect()
}

/// The server that a line means: an address, for link-local ones with the link behind it.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 53));
    }
    let (ip, link) = text.split_once('%')?;
    let scope = link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
    Some(SocketAddrV6::new(ip.parse().ok()?, 53, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        dir
    }

    #[test]
    fn a_host_with_resolved_is_known_by_both_ways_to_it() {
        let nss = "passwd: files\nhosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns # x\n";
        let dir = host(&[("etc/nsswitch.conf", nss), ("etc/resolv.conf", "nameserver 1.1.1.1\n")]);
        let before = facts(dir.path());
        assert_eq!(before.nss, ["files", "mdns4_minimal", "resolve", "dns"]);
        assert!(!before.uses_resolved(), "it does not run");
        fs::create_dir_all(dir.path().join("run/systemd/resolve")).expect("made");
        let _resolved = UnixListener::bind(dir.path().join(RESOLVED)).expect("a socket");
        assert!(facts(dir.path()).uses_resolved());

        fs::write(dir.path().join("etc/nsswitch.conf"), "hosts: files dns").expect("written");
        assert!(!facts(dir.path()).uses_resolved(), "nobody asks it");
        fs::write(dir.path().join("etc/resolv.conf"), "search a . b\nnameserver 127.0.0.53\n")
            .expect("written");
        let stub = facts(dir.path());
        assert!(stub.uses_resolved());
        assert_eq!(stub.search, ["a", "b"]);
    }

    #[test]
    fn a_host_that_says_nothing_asks_files_and_dns() {
        let dir = host(&[]);
        let facts = facts(dir.path());
        assert_eq!(facts.nss, ["files", "dns"]);
        assert!(facts.servers.is_empty() && !facts.uses_resolved());
        assert!(upstreams(dir.path(), |_| false).is_empty());
    }

    #[test]
    fn upstreams_are_the_hosts_servers_without_ourselves() {
        let resolv = "# x\nnameserver 172.30.4.1\n nameserver 9.9.9.9\nnameserver\tfe80::1%1\nnameservers x\nnameserver nonsense\n";
        let dir = host(&[("etc/resolv.conf", resolv), (UPLINK, "nameserver 8.8.8.8\n")]);
        let ours = |ip: IpAddr| ip.to_string() == "172.30.4.1";
        let found: Vec<_> = upstreams(dir.path(), ours).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["9.9.9.9:53", "[fe80::1%1]:53"]);
        fs::write(dir.path().join("etc/resolv.conf"), "nameserver 172.30.4.1\n").expect("written");
        assert_eq!(upstreams(dir.path(), ours), ["8.8.8.8:53".parse().expect("an address")]);
    }
}
