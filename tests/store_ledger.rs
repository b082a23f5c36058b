//! The ledger against a model: whatever is noted, cleared and opened again, in any order.

use std::collections::BTreeMap;

use banger::{
    domain::{OverlayKind, UnixMs, VmId, VmSpec, Wishes},
    store::{LedgerEntry, LedgerId, LedgerKind, Store, StoreError, VmRow},
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof};
use serde_json::json;

#[derive(Clone, Debug)]
enum Op {
    Note { store: bool, vm: u32, kind: usize, key: u8, detail: u8 },
    Clear { store: bool, entry: usize },
    Remove { vm: u32 },
    Reopen,
}

const KINDS: [LedgerKind; 5] = [
    LedgerKind::Process,
    LedgerKind::Socket,
    LedgerKind::Directory,
    LedgerKind::File,
    LedgerKind::PortForward,
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any::<bool>(), 1..4_u32, 0..KINDS.len(), 0..3_u8, any::<u8>())
            .prop_map(|(store, vm, kind, key, detail)| Op::Note { store, vm, kind, key, detail }),
        4 => (any::<bool>(), any::<usize>()).prop_map(|(store, entry)| Op::Clear { store, entry }),
        1 => (1..4_u32).prop_map(|vm| Op::Remove { vm }),
        1 => proptest::strategy::Just(Op::Reopen),
    ]
}

fn id(n: u32) -> VmId {
    VmId::from_bytes(n.to_be_bytes())
}

type Key = (VmId, LedgerKind, String);

fn seen(entries: Vec<LedgerEntry>) -> Vec<(LedgerId, Key, serde_json::Value)> {
    entries.into_iter().map(|e| (e.id, (e.vm.expect("a VM's"), e.kind, e.key), e.detail)).collect()
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn two_connections_agree_with_the_model(ops in proptest::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().expect("tempdir");
        let open = || Store::open(&dir.path().join("banger.db")).expect("opens");
        let mut stores = [open(), open()];
        let mut vms: Vec<VmId> = Vec::new();
        for n in 1..4 {
            let spec = VmSpec {
                name: format!("vm{n}").parse().expect("name"),
                image: "tiny".into(),
                vcpus: 1,
                memory_mib: 64,
                disk_mib: None,
                restore: false,
                wishes: Wishes::default(), extras: Default::default(),
            };
            let row = VmRow::new(id(n), spec, OverlayKind::SparseCopy, UnixMs(0));
            stores[0].insert_vm(&row).expect("insert");
            vms.push(id(n));
        }
        // In the order of their ids, as they were first noted.
        let mut model: BTreeMap<LedgerId, (Key, serde_json::Value)> = BTreeMap::new();
        let mut highest = LedgerId(0);
        for op in ops {
            match op {
                Op::Note { store, vm, kind, key, detail } => {
                    let key: Key = (id(vm), KINDS[kind], format!("/{key}"));
                    let detail = json!({ "n": detail });
                    let noted = stores[usize::from(store)].note(&key.0, key.1, &key.2, &detail);
                    if !vms.contains(&key.0) {
                        prop_assert_eq!(noted, Err(StoreError::NoSuchVm(key.0)));
                        continue;
                    }
                    let noted = noted.expect("note");
                    match model.values_mut().find(|(k, _)| *k == key) {
                        Some((_, old)) => *old = detail,
                        None => {
                            assert!(noted > highest, "an id was used twice");
                            highest = noted;
                            model.insert(noted, (key, detail));
                        }
                    }
                }
                Op::Clear { store, entry } => {
                    let id = model.keys().nth(entry % (model.len() + 1)).copied();
                    let id = id.unwrap_or(LedgerId(-1));
                    stores[usize::from(store)].clear(id).expect("clear");
                    model.remove(&id);
                }
                Op::Remove { vm } => {
                    let entries = model.values().filter(|((of, ..), _)| *of == id(vm)).count() as u64;
                    let removed = stores[0].remove_vm(&id(vm));
                    if !vms.contains(&id(vm)) {
                        prop_assert_eq!(removed, Err(StoreError::NoSuchVm(id(vm))));
                    } else if entries > 0 {
                        prop_assert_eq!(removed, Err(StoreError::StillOnHost { vm: id(vm), entries }));
                    } else {
                        removed.expect("nothing of it is left");
                        vms.retain(|left| *left != id(vm));
                    }
                }
                Op::Reopen => stores[1] = open(),
            }
            let expected: Vec<_> =
                model.iter().map(|(id, (key, detail))| (*id, key.clone(), detail.clone())).collect();
            for store in &stores {
                prop_assert_eq!(&seen(store.all_entries().expect("read")), &expected);
            }
            let of_one: Vec<_> = expected.into_iter().filter(|(_, key, _)| key.0 == id(1)).collect();
            prop_assert_eq!(seen(stores[1].entries(&id(1)).expect("read")), of_one);
        }
    }
}
