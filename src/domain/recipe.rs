//! What a recipe must be, as far as that can be told without looking at the host.

use std::{collections::BTreeSet, path::Path};

use super::{ImageName, Recipe, VmSpec};

/// What is wrong with a recipe, at one of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeProblem {
    /// The key: `name`, `users[0].name`.
    pub key: String,
    /// One line: what is wrong and what is accepted.
    pub message: String,
}

impl Recipe {
    /// All that is wrong with it, in the order of its keys. Whether the base and the files exist,
    /// and what the package manifest says, is not looked at.
    #[must_use]
    pub fn problems(&self) -> Vec<RecipeProblem> {
        let mut found = Vec::new();
        let mut fail = |key: &str, message: String| {
            found.push(RecipeProblem { key: key.to_owned(), message });
        };
        if let Err(error) = self.name.parse::<ImageName>() {
            fail("name", error.to_string());
        }
        if let Err(error) = self.base.parse::<ImageName>() {
            fail("base", error.to_string());
        }
        if self.about.chars().any(char::is_control) {
            fail("about", "it is one line, without control characters".to_owned());
        }
        if let Some(mib) = self.size_mib.filter(|mib| !VmSpec::DISK_MIB.contains(mib)) {
            fail("size_mib", format!("a disk is 16 MiB to 16 TiB, not {mib} MiB"));
        }
        if let Some(mib) = self.memory_mib.filter(|mib| !VmSpec::MEMORY_MIB.contains(mib)) {
            fail("memory_mib", format!("memory is 64 MiB to 1 TiB, not {mib} MiB"));
        }
        if self.script.contains('\0') {
            fail("script", "a script has no NUL".to_owned());
        }
        for (nth, key) in self.keys.iter().enumerate() {
            if let Err(why) = public_key(key) {
                fail(&format!("keys[{nth}]"), why);
            }
        }
        for (nth, file) in self.files.iter().enumerate() {
            if let Err(why) = path_on_host(&file.from) {
                fail(&format!("files[{nth}].from"), why);
            }
            if let Err(why) = path_in_image(&file.to) {
                fail(&format!("files[{nth}].to"), why);
            }
        }
        let mut names = BTreeSet::new();
        for (nth, user) in self.users.iter().enumerate() {
            let key = format!("users[{nth}].name");
            if let Err(why) = login_name(&user.name) {
                fail(&key, why);
            } else if !names.insert(&user.name) {
                fail(&key, format!("“{}” is there twice", user.name));
            }
            for (k, line) in user.keys.iter().enumerate() {
                if let Err(why) = public_key(line) {
                    fail(&format!("users[{nth}].keys[{k}]"), why);
                }
            }
        }
        found
    }
}

fn path_on_host(path: &Path) -> Result<(), String> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(format!("“{}” is not absolute: it begins with /", path.display()))
    }
}

fn path_in_image(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("“{path}” is not absolute: it begins with /"));
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(format!("“{path}” has a part . or .., which no file is called"));
    }
    if path.chars().any(char::is_control) {
        return Err("a path has no control characters".to_owned());
    }
    Ok(())
}

/// A name as useradd(8) takes it, with Debian's `NAME_REGEX`: at most 32 of a-z, 0-9, _ and -.
fn login_name(name: &str) -> Result<(), String> {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
    if name == "root" {
        return Err("root is there already; its keys belong into `keys`".to_owned());
    }
    if name.is_empty() || name.len() > 32 || !name.starts_with(first) || !name.chars().all(rest) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "“{shown}” is no user: 1 to 32 of a-z, 0-9, _ and -, with a letter or _ first"
        ));
    }
    Ok(())
}

/// A line of `authorized_keys` (sshd(8)): options it may have, a type, and base64.
fn public_key(line: &str) -> Result<(), String> {
    const TYPES: [&str; 3] = ["ssh-", "ecdsa-sha2-", "sk-"];
    if line.chars().any(char::is_control) {
        return Err("a key is one line".to_owned());
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let base64 = |word: &str| {
        word.len() > 16
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
    };
    let is_key = words
        .windows(2)
        .any(|pair| TYPES.iter().any(|kind| pair[0].starts_with(kind)) && base64(pair[1]));
    if is_key {
        Ok(())
    } else {
        let shown: String = line.chars().take(30).collect();
        Err(format!("“{shown}” is no public key: it looks like `ssh-ed25519 AAAA… name`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FileInto, UserInto};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@home";

    fn good() -> Recipe {
        Recipe {
            name: "web".into(),
            base: "debian".into(),
            keys: vec![KEY.into(), format!("no-pty,command=\"a b\" {KEY}")],
            files: vec![FileInto { from: "/etc/motd".into(), to: "/srv/".into() }],
            users: vec![UserInto { name: "ada".into(), sudo: true, keys: vec![KEY.into()] }],
            ..Recipe::default()
        }
    }

    #[test]
    fn a_good_recipe_has_no_problems() {
        assert_eq!(good().problems(), []);
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let mut bad = good();
        bad.name = "Web".into();
        bad.base = String::new();
        bad.about = "a\nb".into();
        bad.size_mib = Some(1);
        bad.memory_mib = Some(1);
        bad.keys.push("ssh-rsa".into());
        bad.files = vec![
            FileInto { from: "motd".into(), to: "srv".into() },
            FileInto { from: "/a".into(), to: "/a/../../b".into() },
        ];
        for name in ["root", "Ada", "ada", "ada"] {
            bad.users.push(UserInto { name: name.into(), sudo: false, keys: Vec::new() });
        }
        let keys: Vec<String> = bad.problems().into_iter().map(|p| p.key).collect();
        let expected = [
            "name",
            "base",
            "about",
            "size_mib",
            "memory_mib",
            "keys[2]",
            "files[0].from",
            "files[0].to",
            "files[1].to",
            "users[1].name",
            "users[2].name",
            "users[3].name",
            "users[4].name",
        ];
        assert_eq!(keys, expected);
    }
}
