//! What a build would change, before it is done.

use std::path::Path;

use serde::Serialize;

/// A package that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The version that comes.
    pub version: String,
}

/// What a build would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Packages that come, by name; with what they depend on if `dependencies`.
    pub install: Vec<Change>,
    /// Packages that go.
    pub remove: Vec<String>,
    /// Whether apt was asked; else it is the plain difference to what the base has.
    pub dependencies: bool,
    /// Bytes to download, if apt was asked.
    pub download_bytes: Option<u64>,
    /// Bytes that the packages take more than now (or less), if apt was asked.
    pub installed_bytes: Option<i64>,
}

impl Preview {
    /// Reads what `20-packages.sh --preview` has written (its usage says how).
    #[must_use]
    pub fn read(work: &Path) -> Self {
        let text = std::fs::read_to_string(work.join("out/preview")).unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let (download, installed) = (Some(0), Some(0));
        let mut preview = Self {
            dependencies: true,
            download_bytes: download,
            installed_bytes: installed,
            ..Self::default()
        };
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["install", name, version] => {
                    let (name, version) = (name.to_owned(), version.to_owned());
                    preview.install.push(Change { name, version });
                }
                ["remove", name] => preview.remove.push(name.to_owned()),
                ["download", bytes] => preview.download_bytes = bytes.parse().ok(),
                ["installed", bytes] => preview.installed_bytes = bytes.parse().ok(),
                _ => {}
            }
        }
        preview
    }

    /// The plain difference: of the words of a manifest, those that the base does not have
    /// (`name-`: has).
    #[must_use]
    pub fn plain(packages: &str, installed: &[String]) -> Self {
        let has = |name: &str| {
            installed.iter().any(|line| {
                let full = line.split(' ').next().unwrap_or_default();
                full == name || full.split(':').next() == Some(name)
            })
        };
        let mut preview = Self::default();
        for word in packages.lines() {
            if let Some(name) = word.strip_suffix('-') {
                if has(name) {
                    preview.remove.push(name.to_owned());
                }
                continue;
            }
            let end = word.find(['=', '/']).unwrap_or(word.len());
            let (name, version) = (&word[..end], word[end..].trim_start_matches(['=', '/']));
            if !has(name) || !version.is_empty() {
                preview.install.push(Change { name: name.into(), version: version.into() });
            }
        }
        preview
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_said_is_read() {
        let text =
            "download 1234\ninstall curl 7.88\ninstall libcurl4 7.88\nremove vim\ninstalled -5\n";
        let preview = Preview::parse(text);
        assert_eq!(preview.install.len(), 2);
        assert_eq!(preview.remove, ["vim"]);
        assert_eq!((preview.download_bytes, preview.installed_bytes), (Some(1234), Some(-5)));
    }

    #[test]
    fn without_apt_it_is_what_the_base_lacks() {
        let installed = ["curl 7.88", "libc6:amd64 2.36", "vim 9"].map(str::to_owned);
        let preview = Preview::plain("curl\ngit\nlibc6\nhello=2.10-3\nvim-\nnano-\n", &installed);
        let names: Vec<&str> = preview.install.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["git", "hello"]);
        assert_eq!((preview.install[1].version.as_str(), preview.remove.len()), ("2.10-3", 1));
        assert_eq!(preview.download_bytes, None);
    }
}
