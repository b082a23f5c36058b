//! `nft`, asked and told in JSON (libnftables-json(5)).

use std::{
    borrow::Cow,
    env,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use nftables::schema::{NfObject, Nftables};
use serde_json::Value;

use crate::domain::Problem;

/// Where distributions have it; a user's `PATH` often has none of these.
const PLACES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];

/// A program of the system's: where it always is, else in `PATH`.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = PLACES.iter().map(PathBuf::from).chain(env::split_paths(&path));
    places.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Does all of it, or nothing.
pub(super) fn apply(what: &str, commands: Vec<NfObject<'_>>) -> Result<(), Problem> {
    let document = Nftables { objects: Cow::Owned(commands) };
    let failed = |why: String| Problem::new(what, why, "nft list ruleset; banger doctor");
    let input = serde_json::to_vec(&document).map_err(|error| failed(error.to_string()))?;
    let output = run(what, &["-j", "-f", "-"], &input)?;
    if output.status.success() { Ok(()) } else { Err(failed(said(&output))) }
}

/// What `nft -j list …` lists; `None` if it is not there.
pub(super) fn list(what: &str, which: &[&str]) -> Result<Option<Vec<Value>>, Problem> {
    // Terse: the elements of sets are many, and of no interest.
    let arguments: Vec<&str> = ["-j", "-t", "list"].iter().chain(which).copied().collect();
    let output = run(what, &arguments, &[])?;
    if !output.status.success() {
        let why = said(&output);
        if why.contains("No such file or directory") {
            return Ok(None);
        }
        return Err(Problem::new(what, why, "nft list ruleset, as root"));
    }
    // Warnings about tables of iptables-nft come before it, as comments.
    let start = output.stdout.iter().position(|b| *b == b'{').unwrap_or(0);
    match serde_json::from_slice::<Value>(&output.stdout[start..]) {
        Ok(Value::Object(mut document)) => match document.remove("nftables") {
            Some(Value::Array(objects)) => Ok(Some(objects)),
            _ => Ok(Some(Vec::new())),
        },
        Ok(_) => Ok(Some(Vec::new())),
        Err(error) => {
            Err(Problem::new(what, format!("nft's JSON: {error}"), "nft -j list ruleset"))
        }
    }
}

fn run(what: &str, arguments: &[&str], input: &[u8]) -> Result<Output, Problem> {
    let Some(nft) = program("nft") else {
        let hint = "install the package nftables";
        return Err(Problem::new(what, "there is no program nft", hint));
    };
    feed(&nft, arguments, input).map_err(|error| {
        Problem::new(what, format!("{}: {error}", nft.display()), "install the package nftables")
    })
}

/// Runs a program, without a shell, in its original language.
pub(super) fn feed(program: &PathBuf, arguments: &[&str], input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It reads all before it says anything; what does not listen says why.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    if output.status.success() { written.map(|()| output) } else { Ok(output) }
}

/// Why it failed: what it said first.
pub(super) fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.map_or_else(|| output.status.to_string(), |line| line.chars().take(300).collect())
}
