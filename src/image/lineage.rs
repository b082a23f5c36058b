//! Which image was made from which, as a tree. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ImageView;

/// A line of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch<'a> {
    /// What is drawn before the name: `│  └─ `; empty for one that was made from no other.
    pub lines: String,
    /// The name.
    pub name: &'a str,
    /// The image; `None` for one that is gone, but from which others were made.
    pub image: Option<&'a ImageView>,
}

/// The tree, line by line: each image below the one it was made from, those of one parent by name.
#[must_use]
pub fn tree(images: &[ImageView]) -> Vec<Branch<'_>> {
    let by_name: BTreeMap<&str, &ImageView> =
        images.iter().map(|image| (image.name.as_str(), image)).collect();
    let mut children: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut roots: BTreeSet<&str> = BTreeSet::new();
    for image in images {
        // One that took its parent's place has no other image above it.
        match image.parent.as_deref().filter(|parent| *parent != image.name) {
            Some(parent) => {
                children.entry(parent).or_default().insert(&image.name);
                if !by_name.contains_key(parent) {
                    roots.insert(parent);
                }
            }
            None => drop(roots.insert(&image.name)),
        }
    }
    let mut tree = Tree { by_name, children, shown: BTreeSet::new(), out: Vec::new() };
    for root in roots {
        tree.add(root, "", "");
    }
    // Names that were given anew can make a circle, which hangs on no root.
    for image in images {
        tree.add(&image.name, "", "");
    }
    tree.out
}

struct Tree<'a> {
    by_name: BTreeMap<&'a str, &'a ImageView>,
    children: BTreeMap<&'a str, BTreeSet<&'a str>>,
    shown: BTreeSet<&'a str>,
    out: Vec<Branch<'a>>,
}

impl<'a> Tree<'a> {
    /// Adds an image and what is below it; `lines` go before its name, `below` before those.
    fn add(&mut self, name: &'a str, lines: &str, below: &str) {
        if !self.shown.insert(name) {
            return;
        }
        let image = self.by_name.get(name).copied();
        self.out.push(Branch { lines: lines.to_owned(), name, image });
        let children: Vec<&str> = self.children.get(name).into_iter().flatten().copied().collect();
        for (index, child) in children.iter().enumerate() {
            let (mark, bar) =
                if index + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.add(child, &format!("{below}{mark}"), &format!("{below}{bar}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(images: &[(&str, &str)]) -> Vec<String> {
        let images: Vec<ImageView> = images
            .iter()
            .map(|(name, parent)| ImageView {
                name: (*name).to_owned(),
                parent: (!parent.is_empty()).then(|| (*parent).to_owned()),
                ..ImageView::default()
            })
            .collect();
        let gone = |image: Option<&ImageView>| if image.is_none() { " (gone)" } else { "" };
        tree(&images).iter().map(|b| format!("{}{}{}", b.lines, b.name, gone(b.image))).collect()
    }

    #[test]
    fn each_is_below_its_parent() {
        let images = [
            ("ci", "docker"),
            ("debian", ""),
            ("docker", "debian"),
            ("lost", "old"),
            ("tiny", ""),
            ("web", "debian"),
        ];
        let expected =
            ["debian", "├─ docker", "│  └─ ci", "└─ web", "old (gone)", "└─ lost", "tiny"];
        assert_eq!(drawn(&images), expected);
    }

    #[test]
    fn a_shadow_and_a_circle_come_to_an_end() {
        assert_eq!(drawn(&[("debian", "debian")]), ["debian"]);
        assert_eq!(drawn(&[("a", "b"), ("b", "a")]), ["a", "└─ b"]);
        assert_eq!(drawn(&[]), [""; 0]);
    }
}
