use super::*;

fn places(variable: bool, runtime_dir: bool, repo_root: bool, exe: bool) -> Places {
    Places {
        variable: variable.then(|| "/var".into()),
        configured: Configured {
            runtime_dir: match (runtime_dir, repo_root) {
                (true, _) => Some("/conf".into()),
                (false, true) => Some("/repo/runtime".into()),
                (false, false) => None,
            },
            by_repo_root: repo_root && !runtime_dir,
        },
        exe: exe.then(|| "/usr/bin/banger".into()),
        checkout: Some("/src".into()),
        data: Some("/home/u/.local/share".into()),
    }
}

const DIRS: [&str; 6] = [
    "/var",
    "/conf",
    "/repo/runtime",
    "/usr/lib/banger",
    "/src/runtime",
    "/home/u/.local/share/banger/runtime",
];
const ORIGINS: [Origin; 6] = [
    Origin::Variable,
    Origin::RuntimeDir,
    Origin::RepoRoot,
    Origin::Installed,
    Origin::Checkout,
    Origin::User,
];

/// All 64 settings times all 64 sets of directories that are there.
#[test]
fn every_combination_gives_the_first_in_order() {
    for settings in 0..64_u32 {
        let set = |bit: usize| settings >> bit & 1 == 1;
        let mut places = places(set(0), set(1), set(2), set(3));
        places.checkout = places.checkout.filter(|_| set(4));
        places.data = places.data.filter(|_| set(5));
        for there in 0..64_u32 {
            let has = |dir: &Path| {
                DIRS.iter().position(|d| dir == Path::new(d)).is_some_and(|i| there >> i & 1 == 1)
            };
            let look = Look { has_record: &has, may_write: &|_| true };
            // The first named one is final; else the first usual one that is there.
            let named = (0..3).find(|&i| set(i));
            let expected = match named {
                Some(i) => has(Path::new(DIRS[i])).then_some(i),
                None => (3..6).find(|&i| set(i) && has(Path::new(DIRS[i]))),
            };
            match (expected, resolve(&places, look)) {
                (Some(i), Ok(located)) => {
                    let found = (located.dir.as_path(), located.origin);
                    assert_eq!(found, (Path::new(DIRS[i]), ORIGINS[i]));
                    assert_eq!(target(&places, look).unwrap(), located, "one is completed");
                }
                (None, Err(problem)) if named.is_none() && !(3..6).any(set) => {
                    assert!(problem.hint.contains(VARIABLE), "{problem}");
                }
                (None, Err(problem)) => {
                    let looked: Vec<usize> = match named {
                        Some(i) => vec![i],
                        None => (3..6).filter(|&i| set(i)).collect(),
                    };
                    for (i, dir) in DIRS.iter().enumerate() {
                        assert_eq!(problem.why.contains(dir), looked.contains(&i), "{problem}");
                    }
                    // What is told to do makes one of those that were looked at.
                    let made = target(&places, look).unwrap();
                    assert!(looked.iter().any(|&i| ORIGINS[i] == made.origin), "{made:?}");
                    let hint = format!("run `{BOOTSTRAP}` to make one in {}", made.dir.display());
                    assert!(problem.hint.starts_with(&hint), "{problem}");
                }
                (expected, got) => panic!("{places:?} {there:b}: {expected:?} {got:?}"),
            }
        }
    }
}

#[test]
fn an_empty_variable_is_not_set_and_a_relative_one_is_refused() {
    let look = Look { has_record: &|_| true, may_write: &|_| true };
    let mut p = places(true, false, false, false);
    p.variable = Some("".into());
    assert_eq!(resolve(&p, look).unwrap().origin, Origin::Checkout);
    p.variable = Some("./runtime".into());
    let problem = resolve(&p, look).unwrap_err();
    assert!(problem.why.contains("relative"), "{problem}");
    assert!(target(&p, look).is_err());
}

#[test]
fn a_variable_may_begin_with_the_home_directory() {
    let home = Some(Path::new("/home/u"));
    assert_eq!(from_home("~/rt".into(), home), "/home/u/rt");
    assert_eq!(from_home("/~/rt".into(), home), "/~/rt");
    assert_eq!(from_home("~/rt".into(), None), "~/rt");
}

#[test]
fn a_bootstrap_goes_where_there_is_one_then_to_a_place_it_may_write_to() {
    let mut p = places(false, false, false, true);
    let at = |p: &Places, there: &[&str], closed: &[&str]| {
        let is = |list: &[&str], dir: &Path| list.iter().any(|d| dir == Path::new(d));
        let has_record = |dir: &Path| is(there, dir);
        let may_write = |dir: &Path| !is(closed, dir);
        target(p, Look { has_record: &has_record, may_write: &may_write }).unwrap().dir
    };
    let (installed, own) = ("/usr/lib/banger", "/home/u/.local/share/banger/runtime");
    assert_eq!(at(&p, &[installed], &[installed]), Path::new(installed));
    assert_eq!(at(&p, &[own], &[]), Path::new(own));
    assert_eq!(at(&p, &[], &[]), Path::new("/src/runtime"));
    // A checkout of root's is nothing for a user who may not write to it.
    assert_eq!(at(&p, &[], &["/src/runtime", installed]), Path::new(own));
    p.checkout = None;
    assert_eq!(at(&p, &[], &[]), Path::new(installed));
    assert_eq!(at(&p, &[], &[installed]), Path::new(own));
    p.data = None;
    assert_eq!(at(&p, &[], &[installed]), Path::new(installed));
    assert_eq!(at(&places(true, true, true, true), &[], &[]), Path::new("/var"));
}

#[test]
fn who_may_not_write_beside_the_program_is_told_of_both_ways() {
    let mut p = places(false, false, false, true);
    p.checkout = None;
    let closed = Path::new("/usr/lib/banger");
    let look = Look { has_record: &|_| false, may_write: &|dir| dir != closed };
    let hint = resolve(&p, look).unwrap_err().hint;
    assert!(hint.contains("/home/u/.local/share/banger/runtime, for you; `sudo "), "{hint}");
    assert!(hint.contains("--dir /usr/lib/banger"), "{hint}");
    // And of another place, where a place that was named is closed.
    let look = Look { has_record: &|_| false, may_write: &|_| false };
    let hint = resolve(&places(true, false, false, true), look).unwrap_err().hint;
    assert!(hint.contains("set BANGER_RUNTIME_DIR to a directory of yours"), "{hint}");
}

#[test]
fn a_place_that_cannot_be_looked_at_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!has_record(dir.path()));
    assert!(!has_record(&dir.path().join("none")));
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(!has_record(&dir.path().join("file")));
    // A link to itself cannot be followed, by root either.
    std::os::unix::fs::symlink(RECORD_FILE, dir.path().join(RECORD_FILE)).unwrap();
    assert!(has_record(dir.path()));
}

#[test]
fn a_checkout_is_one_while_it_is_there_and_its_owner_can_be_trusted() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(checkout(dir.path(), None), None);
    fs::write(dir.path().join("Cargo.toml"), "").unwrap();
    assert_eq!(checkout(dir.path(), None).as_deref(), Some(dir.path()));
    if geteuid().is_root() {
        let manifest = dir.path().join("Cargo.toml");
        std::os::unix::fs::chown(&manifest, Some(1000), None).unwrap();
        assert_eq!(checkout(dir.path(), None), None, "somebody else's");
        let exe = dir.path().join("banger");
        fs::write(&exe, "").unwrap();
        assert_eq!(checkout(dir.path(), Some(&exe)), None, "root's program");
        std::os::unix::fs::chown(&exe, Some(1000), None).unwrap();
        assert!(checkout(dir.path(), Some(&exe)).is_some(), "both are of the same user");
    }
}
