//! `banger self …`: what the Makefile, packages and completions ask of banger about itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap_complete::Shell;

use super::{
    args::{ItselfVerb, Place},
    completions,
    exit::{self, Outcome},
    man, out, rest,
};
use crate::{
    bundle::{self, Content, Piece, Target},
    domain::Problem,
};

const RESTORE_UNIT: &str = include_str!("units/banger-restore.service");

/// The scripts of shells, where each of them looks below `/usr` and `/usr/local`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/banger"),
    (Shell::Zsh, "share/zsh/site-functions/_banger"),
    (Shell::Fish, "share/fish/vendor_completions.d/banger.fish"),
];

/// Carries it out.
///
/// # Errors
/// What could not be written or removed.
pub fn run(verb: &ItselfVerb) -> Outcome {
    match verb {
        ItselfVerb::Install { at, init, checkout } => {
            let target = target(at)?;
            let pieces = pieces(&target, init, checkout.as_deref())?;
            bundle::install_files(&target, &pieces)?;
            out::line(format!("{} files are in {}", pieces.len(), target.now_at().display()))?;
        }
        ItselfVerb::Uninstall { at } => {
            let target = target(at)?;
            for stays in bundle::uninstall(&target)? {
                out::note(&format!("note: {stays}: it stays"));
            }
            out::line(format!("banger is removed from {}", target.now_at().display()))?;
        }
        ItselfVerb::Names { kind } => return completions::names(*kind),
        ItselfVerb::Rest => return rest::run(),
    }
    Ok(exit::OK)
}

fn target(at: &Place) -> Result<Target, Problem> {
    Target::new(&at.prefix, at.destdir.as_deref())
}

/// All that is installed but the runtime directory.
fn pieces(target: &Target, init: &Path, checkout: Option<&Path>) -> Result<Vec<Piece>, Problem> {
    let exe = env::current_exe().map_err(|e| {
        let hint = "is /proc mounted?";
        Problem::new("cannot tell where the banger program is", e.to_string(), hint)
    })?;
    let text = |path: &str, text: String| Piece {
        path: path.into(),
        content: Content::Text(text),
        mode: 0o644,
    };
    let file =
        |path: PathBuf, from: PathBuf, mode| Piece { path, content: Content::File(from), mode };
    let program = target.prefix().join("bin/banger");
    let mut pieces = vec![
        file("bin/banger".into(), exe, 0o755),
        file(bundle::INSTALLED_INIT.into(), init.to_owned(), 0o755),
        text("lib/systemd/user/banger-restore.service", unit(&program)),
    ];
    let scripts = COMPLETIONS.iter();
    pieces.extend(scripts.map(|(shell, path)| text(path, completions::script(*shell))));
    let pages = man::pages().into_iter();
    pieces.extend(pages.map(|(name, page)| text(&format!("share/man/man1/{name}"), page)));
    for from in checkout.map(documents).transpose()?.unwrap_or_default() {
        let name = from.file_name().unwrap_or_default().to_owned();
        pieces.push(file(Path::new("share/doc/banger").join(name), from, 0o644));
    }
    Ok(pieces)
}

/// The documents of a checkout.
fn documents(checkout: &Path) -> Result<Vec<PathBuf>, Problem> {
    let docs = checkout.join("docs");
    let entries = fs::read_dir(&docs).map_err(|e| {
        let hint = "give --checkout the directory of Cargo.toml";
        Problem::new(format!("cannot read {}", docs.display()), e.to_string(), hint)
    })?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "md"));
    let top = ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "LICENSE"];
    found.extend(top.map(|name| checkout.join(name)));
    found.sort();
    Ok(found)
}

/// The unit of systemd that restores at login.
fn unit(program: &Path) -> String {
    RESTORE_UNIT.replace("@PROGRAM@", &unit_word(&program.display().to_string()))
}

/// A word of a command line in a unit: systemd.service(5), "COMMAND LINES", and
/// systemd.syntax(7).
fn unit_word(word: &str) -> String {
    let word = word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+%".contains(c);
    if word.chars().all(plain) { word } else { format!("\"{word}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_program_is_one_word() {
        assert_eq!(unit_word("/usr/bin/banger"), "/usr/bin/banger");
        assert_eq!(unit_word("/my own/bin/banger"), "\"/my own/bin/banger\"");
        assert_eq!(unit_word("/a%b"), "/a%%b");
        assert_eq!(unit_word("/a$b\"c\\"), r#""/a$$b\"c\\""#);
        assert!(
            unit(Path::new("/opt/b/bin/banger"))
                .contains("\nExecStart=/opt/b/bin/banger --restore\n")
        );
    }

    #[test]
    fn what_is_installed_lies_below_the_prefix_and_each_once() {
        let target = Target::new(Path::new("/opt/b"), None).unwrap();
        let pieces =
            pieces(&target, Path::new("init"), Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        let mut paths: Vec<PathBuf> = pieces.unwrap().into_iter().map(|piece| piece.path).collect();
        assert!(paths.iter().all(|path| path.is_relative()), "{paths:?}");
        for path in ["bin/banger", "share/man/man1/banger.1", "share/doc/banger/cli.md"] {
            assert!(paths.contains(&path.into()), "{path}: {paths:?}");
        }
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
