//! Commands as a user would type them into a shell. For the eye ("What I ran"); nothing here runs
//! them.

use std::{ffi::OsStr, path::Path, process::Command};

use crate::domain::shell_word;

/// A program and its arguments, in one line.
pub(super) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A request of HTTP to a UNIX socket, for `curl`.
pub(super) fn curl(socket: &Path, method: &str, path: &str, body: &str) -> String {
    let (socket, body) = (quoted(socket.as_os_str()), quoted(OsStr::new(body)));
    format!("curl --unix-socket {socket} -X {method} http://localhost{path} -d {body}")
}

/// A word, such as a path. What is not UTF-8 is shown as the replacement character.
pub(super) fn quoted(word: &OsStr) -> String {
    shell_word(&word.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_that_were_meant() {
        let words = ["plain-1.0/a,b=c", "two words", "", "it's", "$HOME `x` \"y\" \\ *", "ä", "~"];
        let mut command = Command::new("printf");
        command.arg("%s\\n").args(words);
        let line = line(&command);
        assert!(line.starts_with("printf '%s\\n' plain-1.0/a,b=c 'two words' '' "), "{line}");
        let said = Command::new("sh").arg("-c").arg(&line).output().expect("a shell");
        let said = String::from_utf8(said.stdout).expect("text");
        assert_eq!(said.lines().collect::<Vec<_>>(), words);
    }

    #[test]
    fn a_request() {
        assert_eq!(
            curl(Path::new("/run/a b/vmm.sock"), "PATCH", "/vm", r#"{"state":"Paused"}"#),
            r#"curl --unix-socket '/run/a b/vmm.sock' -X PATCH http://localhost/vm -d '{"state":"Paused"}'"#
        );
    }
}
