//! What all VMs share goes with the last that uses it.

use super::{ground::Ground, overlay::SnapshotDetail};
use crate::{
    domain::Problem,
    host::ops::Op,
    store::{LedgerEntry, LedgerKind, Store},
};

/// Whether there is something that no VM uses any more: whoever was to remove it was killed.
///
/// # Errors
/// The file.
pub fn has_unused(store: &Store) -> Result<bool, Problem> {
    let entries = store.all_entries()?;
    let mut shared = entries.iter().filter(|entry| entry.vm.is_none());
    Ok(shared.any(|entry| !is_used(entry, &entries)))
}

/// Removes what no VM uses any more, newest first; an error does not stop the rest.
///
/// Returns one line for each thing that is still there.
pub fn release(ground: &Ground<'_>) -> Vec<String> {
    match has_unused(ground.store) {
        Ok(false) => return Vec::new(),
        Ok(true) => {}
        Err(problem) => return vec![problem.to_string()],
    }
    let locked = ground.lock().and_then(|lock| Ok((lock, ground.store.all_entries()?)));
    let (_lock, entries) = match locked {
        Ok(locked) => locked,
        Err(problem) => return vec![problem.to_string()],
    };
    let mut left = Vec::new();
    for entry in entries.iter().rev().filter(|entry| entry.vm.is_none()) {
        if is_used(entry, &entries) {
            continue;
        }
        let undone =
            undo(ground, entry).and_then(|()| ground.strike_out(entry).map_err(|e| e.to_string()));
        if let Err(why) = undone {
            left.push(format!("{} {}: {why}", entry.kind, entry.key));
        }
    }
    left
}

fn is_used(shared: &LedgerEntry, entries: &[LedgerEntry]) -> bool {
    let mut of_vms = entries.iter().filter(|entry| entry.vm.is_some());
    match shared.kind {
        LedgerKind::BaseLoop => of_vms.any(|entry| {
            let detail = serde_json::from_value::<SnapshotDetail>(entry.detail.clone());
            entry.kind == LedgerKind::Snapshot && detail.is_ok_and(|d| d.base == shared.key)
        }),
        _ => of_vms.any(|entry| entry.kind == LedgerKind::Tap),
    }
}

fn undo(ground: &Ground<'_>, entry: &LedgerEntry) -> Result<(), String> {
    let op = match entry.kind {
        LedgerKind::Bridge => Op::BridgeGone,
        LedgerKind::Rules => Op::RulesGone,
        LedgerKind::Forwarding => Op::ForwardingGone,
        // The kernel counts who uses it: it went with the last snapshot.
        LedgerKind::BaseLoop => return Ok(()),
        kind => return Err(format!("nobody shares a {kind}")),
    };
    ground.run(None, &op, &[]).map(drop).map_err(|problem| problem.why)
}
