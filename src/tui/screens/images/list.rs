//! Which images are shown, in which order: a plain list, or which was made from which.

use std::cmp::Ordering;

use super::filter::fits;
use crate::{
    domain::{Fleet, ImageView, name_order},
    tui::{
        screens::browser::{Filter, ordered},
        state::is_older,
    },
};

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Name.
    #[default]
    Name,
    /// Where it comes from.
    Origin,
    /// Size of the disk, the largest first.
    Size,
    /// Bytes on the host, the most first.
    Used,
    /// When it was built, the newest first.
    Built,
    /// Machines on it, the most first.
    Vms,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in [`Fleet::images`].
    pub at: usize,
    /// How many images are between it and one that was made from none that is shown.
    pub depth: usize,
}

/// The rows of the table.
#[derive(Debug, Default)]
pub struct List {
    rows: Vec<Row>,
}

/// Machines on an image, and how many of them are of an older build of it.
#[must_use]
pub fn vms_on(image: &ImageView, fleet: &Fleet) -> (usize, usize) {
    let on = fleet.vms.iter().filter(|vm| vm.spec.image == image.name);
    on.fold((0, 0), |(all, old), vm| (all + 1, old + usize::from(is_older(vm, image))))
}

impl List {
    /// Filters and sorts; in a tree, what was made from an image stands below it.
    pub fn refresh(
        &mut self,
        fleet: &Fleet,
        filter: &Filter,
        sort: Sort,
        reverse: bool,
        tree: bool,
    ) {
        let images = &fleet.images;
        let shown = ordered(
            images,
            |image| fits(filter, image, fleet),
            |a, b| compare(a, b, sort, fleet),
            reverse,
            |image| &image.name,
        );
        self.rows.clear();
        if !tree {
            self.rows.extend(shown.into_iter().map(|at| Row { at, depth: 0 }));
            return;
        }
        let parent = |at: usize| {
            let name = images[at].parent.as_ref()?;
            shown.iter().copied().find(|other| *other != at && images[*other].name == *name)
        };
        let roots: Vec<usize> = shown.iter().copied().filter(|at| parent(*at).is_none()).collect();
        let mut wait: Vec<Row> = roots.into_iter().rev().map(|at| Row { at, depth: 0 }).collect();
        while let Some(row) = wait.pop() {
            self.rows.push(row);
            let children = shown.iter().copied().rev().filter(|at| parent(*at) == Some(row.at));
            wait.extend(children.map(|at| Row { at, depth: row.depth + 1 }));
        }
        // Those that are said to be made from each other, which no root leads to.
        for at in shown {
            if self.rows.iter().all(|row| row.at != at) {
                self.rows.push(Row { at, depth: 0 });
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The image in a row, and how deep it stands.
    #[must_use]
    pub fn get<'a>(&self, fleet: &'a Fleet, row: usize) -> Option<(&'a ImageView, usize)> {
        let row = self.rows.get(row)?;
        Some((fleet.images.get(row.at)?, row.depth))
    }

    /// The row of an image.
    #[must_use]
    pub fn row_of(&self, fleet: &Fleet, name: &str) -> Option<usize> {
        let is = |row: &Row| fleet.images.get(row.at).is_some_and(|image| image.name == name);
        self.rows.iter().position(is)
    }
}

fn compare(a: &ImageView, b: &ImageView, sort: Sort, fleet: &Fleet) -> Ordering {
    match sort {
        Sort::Name => name_order(&a.name, &b.name),
        Sort::Origin => a.origin.word().cmp(b.origin.word()),
        Sort::Size => b.size.cmp(&a.size),
        Sort::Used => b.used.cmp(&a.used),
        Sort::Built => b.built.map(|at| at.0).cmp(&a.built.map(|at| at.0)),
        Sort::Vms => vms_on(b, fleet).0.cmp(&vms_on(a, fleet).0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Phase, UnixMs},
        tui::testing::{fleet, vm},
    };

    fn image(name: &str, parent: Option<&str>, built: u64) -> ImageView {
        ImageView {
            name: name.into(),
            parent: parent.map(Into::into),
            built: Some(UnixMs(built)),
            sha256: format!("{built:064x}"),
            ..ImageView::default()
        }
    }

    fn shown(list: &List, fleet: &Fleet) -> Vec<String> {
        let row =
            |n| list.get(fleet, n).map(|(i, depth)| format!("{}{}", "-".repeat(depth), i.name));
        (0..list.len()).filter_map(row).collect()
    }

    #[test]
    fn a_tree_has_children_below_their_parents_and_loses_nobody() {
        let mut fleet = fleet(Vec::new());
        fleet.images = vec![
            image("a", Some("debian"), 3),
            image("b", Some("a"), 9),
            image("debian", None, 1),
            image("gone", Some("away"), 2),
            image("x", Some("y"), 4),
            image("y", Some("x"), 5),
            image("z", Some("debian"), 6),
        ];
        let mut list = List::default();
        let mut refresh = |filter: &str, sort, reverse, tree| {
            list.refresh(&fleet, &Filter::new(&[], filter), sort, reverse, tree);
            shown(&list, &fleet)
        };
        let tree = refresh("", Sort::Name, false, true);
        assert_eq!(tree, ["debian", "-a", "--b", "-z", "gone", "x", "y"]);
        assert_eq!(refresh("!debian", Sort::Name, false, true)[..3], ["a", "-b", "gone"]);
        assert_eq!(refresh("", Sort::Built, false, true)[..3], ["gone", "debian", "-z"]);
        let plain = refresh("", Sort::Built, false, false);
        assert_eq!(plain, ["b", "z", "y", "x", "a", "gone", "debian"]);
    }

    #[test]
    fn machines_of_an_older_build_are_counted() {
        let image = image("tiny", None, 7);
        let mut vms = vec![vm(1, "a", Phase::Running), vm(2, "b", Phase::Stopped)];
        vms.push(vm(3, "c", Phase::Stopped));
        vms[0].made_from = Some(image.sha256.clone());
        vms[1].made_from = Some("0".repeat(64));
        assert_eq!(vms_on(&image, &fleet(vms)), (3, 1), "of c nobody knows");
    }
}
