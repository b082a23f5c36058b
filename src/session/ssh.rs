//! The `ssh` program: how it is called for a VM, and as a session.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{
    Control, Session, Size,
    pty::{self, Opened, Program, PtyControl},
    ready::Ear,
};
use crate::domain::{Problem, SshEndpoint, VmId};

/// A guest to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshTarget {
    /// Where it answers.
    pub endpoint: SshEndpoint,
    /// Which VM it is: its host key is remembered under this, as addresses and ports change.
    pub vm: VmId,
    /// The user's private key (see `Layout::ssh_key`).
    pub key: PathBuf,
    /// The host keys seen of this VM (see `VmPaths::known_hosts`).
    pub known_hosts: PathBuf,
}

/// Whether the guest gives the session a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tty {
    /// Always, and no key is special to ssh: for panes.
    Pane,
    /// If ours is one and no command is given: what `ssh` does by itself.
    Auto,
    /// Never, and nothing is asked: for scripts and for readiness.
    Never,
}

/// The program and its arguments for a session as root in the guest, or for `command` there.
///
/// The user's own configuration and agent of ssh play no part: what works for one user works
/// for all. As with ssh itself, the words of a command are joined by spaces and read by the
/// guest's shell.
#[must_use]
pub fn ssh_command(target: &SshTarget, tty: Tty, command: &[OsString]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["ssh".into(), "-F".into(), "/dev/null".into()];
    let mut option = |name: &str, value: &OsStr| {
        let mut option = OsString::from(format!("{name}="));
        option.push(value);
        argv.extend(["-o".into(), option]);
    };
    option("IdentityFile", &quoted(&target.key));
    option("UserKnownHostsFile", &quoted(&target.known_hosts));
    option("HostKeyAlias", OsStr::new(target.vm.as_str()));
    let mut set = |name: &str, value: &str| option(name, OsStr::new(value));
    set("IdentitiesOnly", "yes");
    set("IdentityAgent", "none");
    set("PreferredAuthentications", "publickey");
    set("GlobalKnownHostsFile", "/dev/null");
    // A VM's key is learnt at the first connection, and must then stay the same.
    set("StrictHostKeyChecking", "accept-new");
    set("UpdateHostKeys", "no");
    set("CheckHostIP", "no");
    set("LogLevel", "ERROR");
    // Seconds. An emulated guest that has just booted may take some to answer.
    set("ConnectTimeout", "20");
    // A guest that was stopped or paused is noticed after 45 s.
    set("ServerAliveInterval", "15");
    set("ServerAliveCountMax", "3");
    match tty {
        Tty::Pane => argv.extend(["-tt", "-e", "none"].map(OsString::from)),
        Tty::Auto => {}
        Tty::Never => argv.extend(["-T", "-o", "BatchMode=yes"].map(OsString::from)),
    }
    argv.extend(["-p".into(), target.endpoint.port.to_string().into()]);
    argv.extend(["-l", "root", "--", &target.endpoint.host].map(OsString::from));
    argv.extend_from_slice(command);
    argv
}

/// A path as the value of an option: ssh reads such a value as a list of quoted words, in which
/// `%` begins a placeholder.
fn quoted(path: &Path) -> OsString {
    let mut value = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => value.extend([b'\\', byte]),
            b'%' => value.extend(b"%%"),
            _ => value.push(byte),
        }
    }
    value.push(b'"');
    OsString::from_vec(value)
}

/// A shell in the guest, through the `ssh` program in a pseudo-terminal of `size`.
///
/// # Errors
/// If `ssh` is not there or cannot be run. That a guest does not answer is said by `ssh` on its
/// terminal, and by the end of the session.
pub fn open(target: &SshTarget, size: Size) -> Result<Session, Problem> {
    let program = Program { argv: ssh_command(target, Tty::Pane, &[]), ..Program::default() };
    let Opened { reader, writer, control } =
        pty::spawn(&program, size).map_err(|problem| Problem {
            hint: "install the OpenSSH client (apt install openssh-client)".to_owned(),
            ..problem
        })?;
    let ear = Ear::default();
    let reader = ear.listen(reader);
    Ok(Session { reader, writer, control: Box::new(SshControl { control, ear }) })
}

struct SshControl {
    control: PtyControl,
    ear: Ear,
}

impl Control for SshControl {
    fn resize(&mut self, size: Size) -> io::Result<()> {
        self.control.resize(size)
    }

    fn when_ready(&mut self, tell: Box<dyn FnOnce() + Send>) {
        self.ear.when_ready(self.control.terminal(), tell);
    }

    fn close(&mut self) {
        self.control.close();
    }

    fn end(&mut self) -> String {
        in_terms_of_ssh(self.control.end())
    }
}

/// Says it as the user sees it: the program is `ssh`, what ended is a shell or a connection.
fn in_terms_of_ssh(end: String) -> String {
    match end.strip_prefix("the program ended") {
        Some("") => "logged out".to_owned(),
        // What ssh itself exits with (ssh(1), "EXIT STATUS").
        Some(" with exit code 255") => "no connection, or it was lost".to_owned(),
        Some(rest) => format!("logged out{rest}"),
        None => end,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn target(dir: &str) -> SshTarget {
        SshTarget {
            endpoint: SshEndpoint { host: "127.0.0.1".into(), port: 40_022 },
            vm: VmId::from_bytes([1, 2, 3, 4]),
            key: PathBuf::from(format!("{dir}/id_ed25519")),
            known_hosts: PathBuf::from(format!("{dir}/known_hosts")),
        }
    }

    /// What ssh itself makes of the arguments.
    fn read_by_ssh(argv: &[OsString]) -> String {
        let out = Command::new(&argv[0]).arg("-G").args(&argv[1..]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn ssh_reads_what_we_mean() {
        let dir = r#"/state of/the "ä\rt" 100%h"#;
        let read = read_by_ssh(&ssh_command(&target(dir), Tty::Pane, &[]));
        for line in [
            "user root",
            "hostname 127.0.0.1",
            "port 40022",
            "hostkeyalias 01020304",
            "stricthostkeychecking accept-new",
            "identitiesonly yes",
            "identityagent none",
            "requesttty force",
            "escapechar none",
            "serveraliveinterval 15",
            "connecttimeout 20",
            "loglevel ERROR",
            "batchmode no",
            "preferredauthentications publickey",
        ] {
            assert!(read.lines().any(|have| have == line), "{line} is not in\n{read}");
        }
        // Placeholders in here are replaced when the file is opened, so still doubled.
        let doubled = dir.replace('%', "%%");
        assert!(read.contains(&format!("identityfile {doubled}/id_ed25519\n")), "{read}");
        assert!(read.contains(&format!("userknownhostsfile {dir}/known_hosts\n")), "{read}");
    }

    #[test]
    fn scripts_are_never_asked_and_commands_come_last() {
        let command = ["echo", "-n", "a b"].map(OsString::from);
        let argv = ssh_command(&target("/s"), Tty::Never, &command);
        assert_eq!(argv[argv.len() - 5..argv.len() - 3], ["--", "127.0.0.1"].map(OsString::from));
        assert_eq!(argv[argv.len() - 3..], command);
        let read = read_by_ssh(&argv);
        for line in ["batchmode yes", "requesttty false"] {
            assert!(read.lines().any(|have| have == line), "{line} is not in\n{read}");
        }
        let read = read_by_ssh(&ssh_command(&target("/s"), Tty::Auto, &[]));
        assert!(read.lines().any(|have| have == "requesttty auto"), "{read}");
    }

    #[test]
    fn the_end_is_told_in_terms_of_ssh() {
        let table = [
            ("the program ended", "logged out"),
            ("the program ended with exit code 3", "logged out with exit code 3"),
            ("the program ended with exit code 255", "no connection, or it was lost"),
            (
                "the program was ended by a signal (Hangup)",
                "the program was ended by a signal (Hangup)",
            ),
        ];
        for (from, to) in table {
            assert_eq!(in_terms_of_ssh(from.to_owned()), to);
        }
    }
}
