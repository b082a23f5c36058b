//! Whether an image is what would be built now. Pure.

use std::collections::BTreeMap;

use super::{PackageManifest, metadata::Parent};
use crate::domain::StaleReason;

/// What an image was built from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Built<'a> {
    /// The package manifest; `None` if it was not built from one, or nobody knows.
    pub packages: Option<&'a PackageManifest>,
    /// The image it was made from.
    pub parent: Option<&'a Parent>,
    /// The steps of its customization, with the sums of their scripts.
    pub steps: Option<&'a BTreeMap<String, String>>,
}

/// What it would be built from now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The package manifest; `None`: whatever it was.
    pub packages: Option<&'a PackageManifest>,
    /// The sum of the image that has its parent's name; `None` if there is none.
    pub parent: Option<&'a str>,
    /// All steps there are, with the sums of their scripts.
    pub steps: Option<&'a BTreeMap<String, String>>,
}

/// Why what was built is not what is wanted; nothing if it is.
#[must_use]
pub fn reasons(built: Built<'_>, wanted: Wanted<'_>) -> Vec<StaleReason> {
    let mut reasons = Vec::new();
    if let (Some(was), Some(is)) = (built.packages, wanted.packages) {
        let diff = was.diff(is);
        if !diff.is_empty() {
            reasons.push(StaleReason::Packages { diff });
        }
    }
    if let Some(parent) = built.parent {
        match wanted.parent {
            None => reasons.push(StaleReason::NoParent { name: parent.name.clone() }),
            Some(is) if is != parent.sha256 => {
                reasons.push(StaleReason::Parent { name: parent.name.clone() });
            }
            Some(_) => {}
        }
    }
    if let (Some(was), Some(is)) = (built.steps, wanted.steps) {
        let changed = was.iter().filter(|(name, sum)| is.get(*name) != Some(*sum));
        let names: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            reasons.push(StaleReason::Steps { names });
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> PackageManifest {
        PackageManifest::parse(text).unwrap()
    }

    fn parent() -> Parent {
        Parent { name: "debian".into(), sha256: "aa".into() }
    }

    fn said(built: Built<'_>, wanted: Wanted<'_>) -> Vec<String> {
        reasons(built, wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_as_it_was_is_fresh() {
        let (packages, parent) = (manifest("git\nvim"), parent());
        let steps = BTreeMap::from([("packages".to_owned(), "1".to_owned())]);
        let more = BTreeMap::from([
            ("packages".to_owned(), "1".to_owned()),
            ("docker".to_owned(), "2".to_owned()),
        ]);
        let built = Built { packages: Some(&packages), parent: Some(&parent), steps: Some(&steps) };
        let wanted = Wanted { packages: Some(&packages), parent: Some("aa"), steps: Some(&more) };
        assert_eq!(said(built, wanted), [""; 0]);
        assert_eq!(said(Built::default(), wanted), [""; 0], "nobody knows what it was built from");
        let nothing = Wanted { parent: Some("aa"), ..Wanted::default() };
        assert_eq!(said(built, nothing), [""; 0], "nothing else is wanted");
    }

    #[test]
    fn each_thing_that_changed_is_a_reason() {
        let (old, new, parent) = (manifest("git\nvim"), manifest("git\nnano"), parent());
        let was = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".into(), "1".into())]);
        let is = BTreeMap::from([("a".to_owned(), "2".to_owned())]);
        let built = Built { packages: Some(&old), parent: Some(&parent), steps: Some(&was) };
        let wanted = Wanted { packages: Some(&new), parent: Some("bb"), steps: Some(&is) };
        let all = ["packages: +nano -vim", "debian was built again", "steps that changed: a, b"];
        assert_eq!(said(built, wanted), all);
        let gone = Wanted { parent: None, ..wanted };
        assert!(said(built, gone)[1].contains("is gone"));
    }
}
