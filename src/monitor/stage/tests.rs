//! What a run makes on a host that is not there, and that nothing of it stays.

use std::{fs, sync::Arc};

use super::{super::clear::clear, *};
use crate::{
    domain::{Layout, OverlayKind, Tag, UnixMs, VmDraft, VmId},
    host::{
        lock::FileLock,
        ops::{Done, FakeOps, Inventory, Op, Operate},
    },
    store::{Store, VmState},
};

struct Home {
    _dir: tempfile::TempDir,
    layout: Layout,
    store: Store,
    ops: Arc<FakeOps>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout { state: dir.path().join("state"), run: dir.path().join("run") };
        let store = Store::open(&layout.database()).expect("opens");
        Self { _dir: dir, layout, store, ops: Arc::default() }
    }

    fn ground(&self) -> Ground<'_> {
        let ops: Arc<dyn Operate> = self.ops.clone();
        let tag = Tag::from_bytes([1, 2, 3]);
        Ground { store: &self.store, layout: &self.layout, tag, ops: Ok(ops) }
    }

    /// A VM whose disk is a snapshot.
    fn vm(&self, n: u32) -> VmRow {
        let draft = VmDraft {
            name: format!("vm{n}"),
            image: "tiny".into(),
            vcpus: "1".into(),
            memory: "64".into(),
            ..VmDraft::default()
        };
        let id = VmId::from_bytes(n.to_be_bytes());
        let spec = draft.validate().expect("valid");
        let mut row = VmRow::new(id, spec, OverlayKind::DmSnapshot, UnixMs(1));
        (row.state, row.base) = (VmState::Ready, Some("ab".repeat(32)));
        self.store.insert_vm(&row).expect("insert");
        let paths = self.layout.vm(&row.id);
        fs::create_dir_all(paths.dir()).expect("directory");
        fs::create_dir_all(self.layout.state.join("bases")).expect("directory");
        for file in [paths.cow(), overlay::base(&self.layout, &row)] {
            fs::write(file, [0; 4096]).expect("file");
        }
        row
    }

    /// What a start makes.
    fn start(&self, row: &VmRow) -> Result<(), Problem> {
        let ground = self.ground();
        overlay::open(&ground, row, &self.layout.vm(&row.id))?;
        network::attach(&ground, &row.id, 1000, Some(5300)).map(drop)
    }

    fn there(&self) -> Inventory {
        match self.ops.run(&Op::Inventory, &[]) {
            Ok(Done::Inventory(there)) => there,
            other => panic!("{other:?}"),
        }
    }

    fn is_clean(&self) -> bool {
        self.there() == Inventory::default() && self.store.all_entries().expect("read").is_empty()
    }
}

#[test]
fn what_all_share_is_made_once_and_goes_with_the_last() {
    let home = Home::new();
    let (web, db) = (home.vm(1), home.vm(2));
    home.start(&web).expect("starts");
    home.start(&db).expect("starts");
    let rules = |op: &&Op| matches!(op, Op::Rules { .. });
    assert_eq!(home.ops.done().iter().filter(rules).count(), 1);
    let kinds: Vec<_> = home.store.all_entries().expect("read").iter().map(|e| e.kind).collect();
    for kind in [LedgerKind::Bridge, LedgerKind::Rules, LedgerKind::BaseLoop] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), 1, "{kind}");
    }

    assert_eq!(clear(&home.ground(), &web.id), Vec::<String>::new());
    let there = home.there();
    assert!(there.bridge && there.rules, "db uses them");
    assert_eq!((there.taps, there.snapshots), (vec![db.id.clone()], vec![db.id.clone()]));
    assert_eq!(clear(&home.ground(), &db.id), Vec::<String>::new());
    assert!(home.is_clean(), "{:?}", home.store.all_entries());

    let calls = home.store.recent_calls(100).expect("read");
    assert!(calls.iter().any(|call| call.vm == Some(db.id.clone()) && call.error.is_none()));
    assert!(calls.iter().any(|call| call.command.starts_with("ip link add bgr-010203")));
}

#[test]
fn whichever_step_fails_what_was_made_goes() {
    let whole = Home::new();
    whole.start(&whole.vm(1)).expect("starts");
    let steps = whole.ops.done().len();
    for nth in 0..steps {
        let home = Home::new();
        let row = home.vm(1);
        home.ops.fail(nth);
        let problem = home.start(&row).expect_err("told to fail");
        assert_eq!(problem.why, "told to", "{nth}");
        assert_eq!(clear(&home.ground(), &row.id), Vec::<String>::new(), "{nth}");
        assert!(home.is_clean(), "{nth}: {:?}", home.store.all_entries());
    }
}

#[test]
fn what_cannot_be_removed_stays_in_the_ledger_and_the_rest_goes() {
    let whole = Home::new();
    let row = whole.vm(1);
    whole.start(&row).expect("starts");
    let begun = whole.ops.done().len();
    clear(&whole.ground(), &row.id);
    let ended = whole.ops.done().len();
    for nth in begun..ended {
        let home = Home::new();
        let row = home.vm(1);
        home.start(&row).expect("starts");
        home.ops.fail(nth);
        let left = clear(&home.ground(), &row.id);
        assert!(!left.is_empty(), "{nth}");
        let entries = home.store.all_entries().expect("read");
        assert!(!entries.is_empty(), "{nth}: {left:?}");
        assert_eq!(clear(&home.ground(), &row.id), Vec::<String>::new(), "{nth}: the next try");
        assert!(home.is_clean(), "{nth}");
    }
}

#[test]
fn a_host_without_privileges_says_what_it_needs() {
    let home = Home::new();
    let row = home.vm(1);
    let none = Problem::new("no", "there is no root helper", "install it");
    let ground = Ground { ops: Err(none.clone()), ..home.ground() };
    let problem = network::attach(&ground, &row.id, 1000, None).expect_err("nobody to do it");
    assert_eq!(problem, none);
    assert!(!clear(&ground, &row.id).is_empty(), "what was noted is not struck out unseen");
    let free = FileLock::try_exclusive(home.layout.host_lock()).expect("lock");
    assert!(free.is_some(), "given back");
}
