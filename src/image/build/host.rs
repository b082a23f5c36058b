//! What the host has that a build is to use, too: mirrors and their lists, proxies, name servers.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Variables that programs take a proxy from.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// The address under which a guest of a user network finds the host's loopback.
const HOST_OF_GUEST: &str = "10.0.2.2";

/// No directory of lists.
const NO_LISTS: &str = "/nonexistent/";

/// What apt is to say of an index (apt-get(8), `indextargets`).
const TARGET: &str = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(FILENAME)|$(METAKEY)";

/// How much of a release file is read: its fields come before its sums.
const RELEASE_HEAD: u64 = 4096;

/// What the host has that a build is to use, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its package sources: `ORIGIN|CODENAME|URI|RELEASE|COMPONENT`, a line each.
    pub mirrors: String,
    /// Its lists of those that are Debian's: each release file before the indexes that it sums up, so
    /// that who copies them in this order never has an index older than its release.
    pub lists: Vec<PathBuf>,
    /// What its apt is told of proxies, and of mirrors that are behind.
    pub apt_conf: String,
    /// Its resolv.conf(5).
    pub resolv_conf: String,
    /// Proxies in our environment, by the names of their variables.
    pub proxies: Vec<(String, String)>,
}

impl Host {
    /// Looks at the host. What it does not have (apt, on another distribution) is empty.
    #[must_use]
    pub fn look() -> Self {
        // At once, as apt takes a moment to begin.
        let lists = start("apt-config", &["shell", "LISTS", "Dir::State::lists/d"]);
        // Where apt has lists, it reads all of them before it says the first word, for a second. So it
        // is told of none, and what is in them is looked up here.
        let none = format!("Dir::State::lists={NO_LISTS}");
        let args = ["indextargets", "--no-release-info", "-o", &none, "--format", TARGET];
        let targets = start("apt-get", &[&args[..], &["Created-By: Packages"]].concat());
        let dump = start("apt-config", &["dump"]);
        let (lists, targets, dump) = (said(lists), said(targets), said(dump));
        // LISTS='/var/lib/apt/lists/'
        let lists = lists.trim().strip_prefix("LISTS='").and_then(|at| at.strip_suffix('\''));
        let (mirrors, lists) = lists.map(|at| mirrors(Path::new(at), &targets)).unwrap_or_default();
        let proxy = |name: &&str| Some(((*name).to_owned(), env::var(name).ok()?));
        Self {
            mirrors,
            lists,
            apt_conf: dump.lines().filter(|line| is_passed_on(line)).fold(
                String::new(),
                |mut all, line| {
                    all.push_str(line);
                    all.push('\n');
                    all
                },
            ),
            resolv_conf: fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            proxies: PROXIES.iter().filter_map(proxy).filter(|(_, v)| !v.is_empty()).collect(),
        }
    }

    /// As a VM is to have it: with name servers of its own, what listens on the host's loopback where
    /// a guest finds it, and no lists, which are larger than what apt fetches.
    #[must_use]
    pub fn of_guest(mut self) -> Self {
        let there = |text: &str| {
            ["127.0.0.1", "localhost", "[::1]"].iter().fold(text.to_owned(), |text, loopback| {
                text.replace(&format!("//{loopback}:"), &format!("//{HOST_OF_GUEST}:"))
            })
        };
        self.resolv_conf.clear();
        self.lists.clear();
        self.apt_conf = there(&self.apt_conf);
        self.mirrors = there(&self.mirrors);
        for (_, value) in &mut self.proxies {
            *value = there(value);
        }
        self
    }
}

/// Whether a line of `apt-config dump` is of use in another root.
fn is_passed_on(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let proxy = ["acquire::http::proxy", "acquire::https::proxy", "acquire::ftp::proxy"];
    proxy.iter().any(|known| {
        name == *known || name.strip_prefix(known).is_some_and(|rest| rest.starts_with("::"))
    }) || ["acquire::check-valid-until", "acquire::check-date"].contains(&name.as_str())
}

/// Starts a program that says something; nothing if it is not there.
fn start(program: &str, args: &[&str]) -> Option<Child> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

/// What it says; nothing if it fails.
fn said(child: Option<Child>) -> String {
    let run = child.and_then(|child| child.wait_with_output().ok());
    let run = run.filter(|run| run.status.success());
    run.map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).unwrap_or_default()
}

/// The host's package sources and their lists, as [`Host`] has them: of the `targets` (lines of
/// [`TARGET`]) those of which there are lists in the directory `lists`.
fn mirrors(lists: &Path, targets: &str) -> (String, Vec<PathBuf>) {
    let names: BTreeSet<String> = fs::read_dir(lists)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [uri, release, component, index, key] = fields[..] else { return None };
        // `MIRROR_dists_RELEASE_COMPONENT_binary-ARCH_Packages`, packed or not.
        let index = index.rsplit('/').next()?;
        let packages = names.iter().find(|name| {
            name.strip_prefix(index).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })?;
        let of_release = index.strip_suffix(&key.replace('/', "_"))?;
        let name = ["InRelease", "Release"].map(|kind| format!("{of_release}{kind}"));
        let name = name.iter().find(|name| names.contains(*name))?;
        let mut head = Vec::new();
        File::open(lists.join(name)).ok()?.take(RELEASE_HEAD).read_to_end(&mut head).ok()?;
        let text = String::from_utf8_lossy(&head);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let (origin, codename) = (field("Origin: ")?.trim(), field("Codename: ")?.trim());
        // As 10-prepare.sh takes them.
        let is_used = origin == "Debian"
            && !["-backports", "-proposed"].iter().any(|not| codename.contains(not));
        let files = is_used.then(|| [name, packages].map(|name| lists.join(name)));
        Some((format!("{origin}|{codename}|{uri}|{release}|{component}\n"), files))
    };
    let (mut seen, mut all, mut used) = (BTreeSet::new(), String::new(), Vec::new());
    for (row, files) in targets.lines().filter_map(row) {
        // One for each architecture, and one of all.
        if seen.insert(row.clone()) {
            all.push_str(&row);
        }
        for file in files.into_iter().flatten() {
            if !used.contains(&file) {
                used.push(file);
            }
        }
    }
    (all, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_whose_lists_are_here_with_what_their_releases_say() {
        let dir = tempfile::tempdir().expect("temp");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect(name);
        let head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
        let sums = "SHA256:\n Codename: none\n".repeat(500);
        write("m_debian_dists_b_InRelease", &format!("{head}Origin: Debian\nCodename: b\n{sums}"));
        write("m_debian_dists_b_main_binary-amd64_Packages.lz4", "");
        write("m_debian_dists_b_main_binary-all_Packages.lz4", "");
        write("o_x_dists_s_Release", "Origin: Other\nSuite: s\nCodename: c\n");
        write("o_x_dists_s_main_binary-amd64_Packages", "");
        write("n_dists_b_main_binary-amd64_Packages", "");
        let target = |uri: &str, of: &str, component: &str, arch: &str| {
            let key = format!("{component}/binary-{arch}/Packages");
            let file = key.replace('/', "_");
            format!("http://{uri}/|s|{component}|/nonexistent/{of}_{file}|{key}\n")
        };
        let targets = [
            target("m/debian", "m_debian_dists_b", "main", "all"),
            target("m/debian", "m_debian_dists_b", "main", "amd64"),
            target("m/debian", "m_debian_dists_b", "never-fetched", "amd64"),
            target("o/x", "o_x_dists_s", "main", "amd64"),
            target("o/x", "o_x_dists_s", "main", "amd64"),
            target("no-release", "n_dists_b", "main", "amd64"),
            "not a target\n".to_owned(),
        ]
        .concat();
        let expected = "Debian|b|http://m/debian/|s|main\nOther|c|http://o/x/|s|main\n";
        let (rows, lists) = mirrors(dir.path(), &targets);
        assert_eq!(rows, expected);
        let debians = [
            "m_debian_dists_b_InRelease",
            "m_debian_dists_b_main_binary-all_Packages.lz4",
            "m_debian_dists_b_main_binary-amd64_Packages.lz4",
        ];
        assert_eq!(lists, debians.map(|name| dir.path().join(name)), "the release comes first");
        assert_eq!(mirrors(&dir.path().join("none"), &targets), Default::default());
    }

    /// What apt says itself when it is given its time.
    #[test]
    fn sources_are_those_that_apt_knows() {
        let format = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
        let args = ["indextargets", "--format", format, "Created-By: Packages"];
        let known = said(start("apt-get", &args));
        // A release may leave something open.
        let known: BTreeSet<&str> = known.lines().filter(|line| !line.contains("$(")).collect();
        let host = Host::look();
        assert_eq!(host.mirrors.lines().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn of_the_hosts_apt_only_the_way_to_its_mirrors_is_taken() {
        for line in [
            "Acquire::http::Proxy \"http://p:3142\";",
            "Acquire::http::Proxy::deb.example \"DIRECT\";",
            "Acquire::Check-Valid-Until \"false\";",
        ] {
            assert!(is_passed_on(line), "{line}");
        }
        for line in ["APT::Sandbox::User \"_apt\";", "Acquire::http::Proxy-Auto-Detect \"x\";"] {
            assert!(!is_passed_on(line), "{line}");
        }
        let host = Host {
            apt_conf: "Acquire::http::Proxy \"http://localhost:3142\";".into(),
            resolv_conf: "nameserver 127.0.0.53".into(),
            lists: vec!["/var/lib/apt/lists/x_InRelease".into()],
            proxies: vec![("http_proxy".into(), "http://127.0.0.1:8080/".into())],
            ..Host::default()
        };
        let guest = host.of_guest();
        assert!(guest.apt_conf.contains("//10.0.2.2:3142"), "{guest:?}");
        assert_eq!(guest.proxies[0].1, "http://10.0.2.2:8080/");
        assert_eq!((guest.resolv_conf.as_str(), guest.lists.len()), ("", 0));
    }
}
