//! Brings a file that is pinned by its sum: from the network, going on where an earlier run was
//! interrupted, or from this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use super::{failure::Failure, run::Run};
use crate::{
    bundle::manifest::{At, Pinned},
    domain::{ByteSize, Problem},
};

/// Seconds until a host that does not answer is given up.
const CONNECT_TIMEOUT: &str = "10";

/// Seconds without a byte until a download is given up.
const STALL_TIMEOUT: &str = "30";

/// What is kept free on the file system that a download goes to.
const RESERVE: u64 = 16 << 20;

/// Exit codes of curl (curl(1)) by which a host refuses to go on where we were: an HTTP error
/// (416 among them), no ranges, a resumption that cannot be.
const CANNOT_RESUME: [i32; 3] = [22, 33, 36];

/// Why a file is not there.
#[derive(Debug)]
pub(super) enum Missing {
    /// Its host cannot be reached or does not have it: a clause with what curl said.
    Unreachable(String),
    /// Anything else.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Missing {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// Where a pinned file is, for people.
pub(super) fn place(pinned: &Pinned<'_>) -> String {
    match pinned.at {
        At::Url { url, .. } => url.to_owned(),
        At::File(path) => path.display().to_string(),
    }
}

/// Brings the file: its path. Its sum is as pinned when this returns; what comes from the network
/// is kept in `work` under `name`, and goes with that directory.
pub(super) fn bring(
    run: &mut Run<'_>,
    pinned: &Pinned<'_>,
    work: &Path,
    name: &str,
) -> Result<PathBuf, Missing> {
    match pinned.at {
        At::File(path) => {
            run.detail(&format!("checking {}", path.display()));
            let sum = run.sha256(path)?;
            if sum != pinned.sha256 {
                let is = &path.display().to_string();
                return Err(mismatch(is, &sum, pinned.sha256, "nothing of it was used").into());
            }
            Ok(path.clone())
        }
        At::Url { url, mirror } => {
            let file = work.join(name);
            // All of it may be there already: the run was killed between download and commit.
            if size(&file) > 0 && run.sha256(&file)? == pinned.sha256 {
                return Ok(file);
            }
            let Some(mirror) = mirror else { return from(run, pinned, url, &file) };
            match from(run, pinned, url, &file) {
                Err(Missing::Unreachable(why)) => {
                    run.log(&format!("{why}: asking its mirror {mirror}"));
                }
                Err(Missing::Failed(Failure::Stop(problem))) => {
                    run.log(&format!("{}: asking its mirror {mirror}", problem.why));
                }
                other => return other,
            }
            from(run, pinned, mirror, &file)
        }
    }
}

/// Brings it from one address.
fn from(
    run: &mut Run<'_>,
    pinned: &Pinned<'_>,
    url: &str,
    file: &Path,
) -> Result<PathBuf, Missing> {
    let resumed = size(file);
    let mut ended = curl(run, pinned, url, file)?;
    let refused = |code: &Option<i32>| code.is_some_and(|code| CANNOT_RESUME.contains(&code));
    let mut sum = match &ended {
        Ok(()) => run.sha256(file)?,
        Err((code, _)) if resumed > 0 && refused(code) => String::new(),
        Err((_, why)) => return Err(Missing::Unreachable(why.clone())),
    };
    if sum != pinned.sha256 && resumed > 0 {
        // What was there before may be the start of something else.
        run.log("what came before does not fit: fetching all of it again");
        fs::remove_file(file).map_err(|e| run.io("the old download", &e))?;
        ended = curl(run, pinned, url, file)?;
        if let Err((_, why)) = ended {
            return Err(Missing::Unreachable(why));
        }
        sum = run.sha256(file)?;
    }
    if sum == pinned.sha256 {
        return Ok(file.to_owned());
    }
    let bytes = size(file);
    fs::remove_file(file).map_err(|e| run.io("the bad download", &e))?;
    Err(mismatch(url, &sum, pinned.sha256, &format!("{bytes} bytes came")).into())
}

/// How curl failed: its exit code, and a clause with its words.
type Refusal = (Option<i32>, String);

/// Runs curl once; what came stays for the next run, unless it is too much.
fn curl(
    run: &mut Run<'_>,
    pinned: &Pinned<'_>,
    url: &str,
    file: &Path,
) -> Result<Result<(), Refusal>, Failure> {
    run.detail(&format!("fetching {url}"));
    let work = file.parent().unwrap_or(Path::new("/"));
    let free = statvfs(work).map_or(u64::MAX, |s| s.blocks_available() * s.fragment_size());
    let room = (size(file) + free).saturating_sub(RESERVE);
    if pinned.size.is_some_and(|size| size > room) {
        let size = ByteSize(pinned.size.unwrap_or(0));
        let why = format!("{url} has {size}, and {} has {} left", work.display(), ByteSize(free));
        return Err(run.fail(why, "make room on that file system, then run it again"));
    }
    let headers = file.with_extension("headers");
    let program = run.program("curl", work).args([
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        // What came is on disk at once, for the next run if this one is killed.
        "--no-buffer",
        "--connect-timeout",
        CONNECT_TIMEOUT,
        "--speed-limit",
        "1",
        "--speed-time",
        STALL_TIMEOUT,
        "--continue-at",
        "-",
    ]);
    let program = program.args(["--dump-header"]).args([&headers]);
    let program = program.args(["--output"]).args([file]).args(["--", url]);
    let begin = size(file);
    let mut total = pinned.size;
    let at_most = pinned.size.unwrap_or(room).min(room);
    let ended = run.watch_program("curl", program, |run| {
        if total.is_none() {
            let text = fs::read_to_string(&headers).unwrap_or_default();
            total = announced(&text).map(|rest| begin + rest);
        }
        run.progress(size(file), total.unwrap_or(0));
        size(file) <= at_most
    })?;
    // Only ever for the progress.
    let _ = fs::remove_file(&headers);
    if size(file) > at_most {
        fs::remove_file(file).map_err(|e| run.io("the oversized download", &e))?;
        let limit = ByteSize(at_most);
        return Err(Failure::Stop(Problem::new(
            "what was fetched is not what it should be, so nothing of it is kept",
            format!("more came from {url} than the {limit} there may be"),
            "look for a proxy that changes downloads, or make room, then run it again",
        )));
    }
    if ended.status.success() {
        return Ok(Ok(()));
    }
    let said = ended.tail.last().cloned().unwrap_or_else(|| ended.status.to_string());
    let said = said.trim_start_matches("curl: ");
    Ok(Err((ended.status.code(), format!("could not be fetched: {said} ({url})"))))
}

/// How many bytes the last answer in a dump of headers announces (redirects come before it).
fn announced(headers: &str) -> Option<u64> {
    let answers = headers.split("\r\n\r\n").filter(|answer| !answer.trim().is_empty());
    let value = answers.last()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    value?.trim().parse().ok()
}

fn size(file: &Path) -> u64 {
    file.metadata().map_or(0, |m| m.len())
}

/// The problem of a sum that is not as pinned.
pub(super) fn mismatch(what: &str, is: &str, pinned: &str, more: &str) -> Failure {
    Failure::Stop(Problem::new(
        "what was fetched is not what it should be, so nothing of it is kept",
        format!("the SHA-256 of {what} is {is}, and has to be {pinned} ({more})"),
        "look for a proxy that changes downloads, then run it again; if it stays so, report it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_tells_the_length() {
        let redirect = "HTTP/1.1 302 Found\r\nContent-Length: 7\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nX: y\r\n";
        assert_eq!(announced(&format!("{redirect}{last}")), Some(12));
        assert_eq!(announced(&format!("{redirect}{last}\r\n")), Some(12));
        assert_eq!(announced("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(announced(""), None);
    }
}
