//! From typed names to VMs.

use std::sync::Arc;

use super::out;
use crate::domain::{Fleet, Problem, VmView};

/// How many names are listed when none is near.
const LISTED: usize = 8;

/// The VM of this name.
///
/// # Errors
/// When there is none: names the nearest there is.
pub fn one(fleet: &Fleet, name: &str) -> Result<Arc<VmView>, Problem> {
    if let Some(vm) = fleet.vms.iter().find(|vm| vm.spec.name.as_str() == name) {
        return Ok(Arc::clone(vm));
    }
    let why = instead(name, fleet.vms.iter().map(|vm| vm.spec.name.as_str()), "VMs");
    let hint = if fleet.vms.is_empty() {
        "`banger create NAME --start` makes one"
    } else {
        "`banger ls` lists all VMs"
    };
    let name: String = name.chars().take(80).collect();
    Err(Problem::new(format!("there is no VM “{name}”"), why, hint))
}

/// What there is instead of something that is not there, as a clause: the name that is most like it,
/// else some of all. `things` says what has these names.
pub fn instead<'a>(
    name: &str,
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
    things: &str,
) -> String {
    match (nearest(name, names.clone()), names.len()) {
        (_, 0) => format!("there are no {things} yet"),
        (Some(near), _) => format!("did you mean {near}?"),
        (None, count) => {
            let more = if count > LISTED { ", …" } else { "" };
            let listed: Vec<_> = names.take(LISTED).collect();
            format!("there are {}{more}", listed.join(", "))
        }
    }
}

/// Those of the names that are VMs, each once, in the order given; the others are told the user.
/// The flag says whether all were found.
pub fn many(fleet: &Fleet, names: &[String]) -> (Vec<Arc<VmView>>, bool) {
    let mut found: Vec<Arc<VmView>> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for name in names {
        match one(fleet, name) {
            Ok(vm) if found.iter().any(|f| f.id == vm.id) => {}
            Ok(vm) => found.push(vm),
            Err(_) if unknown.contains(&name.as_str()) => {}
            Err(problem) => {
                unknown.push(name);
                out::error(&problem);
            }
        }
    }
    (found, unknown.is_empty())
}

/// The candidate that is most like `text`, if one is like it at all.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name is at most 63 characters: whatever is longer is no slip of the finger.
    if text.len() > 80 {
        return None;
    }
    candidates
        .map(|c| (strsim::jaro_winkler(text, c), c))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{fleet, vm};

    #[test]
    fn names_are_found_once_and_the_rest_is_told() {
        let fleet = fleet([vm("web"), vm("db")]);
        let names = ["db", "web", "db", "nope", "nope"].map(str::to_owned);
        let (found, all) = many(&fleet, &names);
        let found: Vec<_> = found.iter().map(|vm| vm.spec.name.as_str()).collect();
        assert_eq!(found, ["db", "web"]);
        assert!(!all);
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        let some = fleet([vm("web"), vm("database")]);
        assert_eq!(one(&some, "databse").unwrap_err().why, "did you mean database?");
        assert_eq!(one(&some, "qqq").unwrap_err().why, "there are web, database");
        assert_eq!(one(&some, &"x".repeat(300)).unwrap_err().what.chars().count(), 97);
        assert!(one(&fleet([]), "web").unwrap_err().hint.contains("banger create"));
    }
}
