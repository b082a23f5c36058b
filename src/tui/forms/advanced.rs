//! The folded part of the New VM form: what the host chooses well by itself.

use super::{
    Choice, Field, Form, Kind, TextLine,
    new_vm::{Item, KEY, NETWORK, OVERLAY, USER_DATA, VMM},
};
use crate::domain::{HostView, NetworkKind, OverlayKind, VmmKind};

/// What leaves the choice to the host.
const AUTO: &str = "auto";
/// What is behind the fold, as long as none of it was changed.
const HIDDEN: &str = "VMM, network, overlay, SSH keys, user data";

/// The fold and what is behind it.
pub fn fields() -> [Field<Item>; 6] {
    let choice = |item, label, help: &str| {
        let options = vec![Choice { value: AUTO.to_owned(), note: String::new() }];
        Field::new(item, label, Kind::Choice { options, at: 0 }, help)
    };
    let file = |item, label, help: &str, without: &str| {
        let mut field = Field::new(item, label, Kind::Text(TextLine::new("")), help);
        field.placeholder = without.to_owned();
        field
    };
    [
        Field::new(
            Item::Advanced,
            "Advanced",
            Kind::Fold(false),
            "What the host chooses if nobody does. Space unfolds it",
        ),
        choice(VMM, "VMM", "What runs it, at each start. ← → choose"),
        choice(NETWORK, "Network", "How it reaches the world, at each start. ← → choose"),
        choice(OVERLAY, "Overlay", "How its disk shares the image's data; stays so. ← → choose"),
        file(
            KEY,
            "SSH keys",
            "Files of public keys that may log in too; : between two",
            "yours only",
        ),
        file(USER_DATA, "User data", "A file for cloud-init, if the image has that", "none"),
    ]
}

/// Brings it in line with what the host takes now.
pub fn follow(form: &mut Form<Item>, host: &HostView) {
    let vmms = VmmKind::ALL.map(|kind| (kind.word(), kind.label(), Some(kind) == host.vmm));
    offer(form.field_mut(VMM), &vmms, &host.vmm_reason);
    let networks =
        NetworkKind::ALL.map(|kind| (kind.word(), kind.label(), Some(kind) == host.network));
    offer(form.field_mut(NETWORK), &networks, &host.network_reason);
    let overlays =
        OverlayKind::ALL.map(|kind| (kind.word(), kind.label(), Some(kind) == host.overlay));
    offer(form.field_mut(OVERLAY), &overlays, &host.overlay_reason);
    let asked = [VMM, NETWORK, OVERLAY].map(|item| form.field(item).value());
    let mut asked: Vec<_> = asked.into_iter().filter(|word| *word != AUTO).collect();
    for (item, what) in [(KEY, "SSH keys"), (USER_DATA, "user data")] {
        if !form.field(item).value().trim().is_empty() {
            asked.push(what);
        }
    }
    let hidden = if asked.is_empty() { HIDDEN.to_owned() } else { asked.join(", ") };
    form.field_mut(Item::Advanced).placeholder = hidden;
}

/// Offers `auto` and all `kinds`, which are word, label and whether the host takes it now, the
/// best first. `reason` is why the host takes nothing better.
fn offer(field: &mut Field<Item>, kinds: &[(&str, &str, bool)], reason: &str) {
    let taken = kinds.iter().position(|(_, _, now)| *now);
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let now = taken.map(|at| format!("{}{because}", kinds[at].1));
    let Kind::Choice { options, at } = &mut field.kind else { return };
    let note =
        now.as_ref().map_or_else(|| "the host's best".to_owned(), |now| format!("now {now}"));
    let auto = Choice { value: AUTO.to_owned(), note };
    let kind = |(word, label, _): &(&str, &str, bool)| Choice {
        value: (*word).to_owned(),
        note: (*label).to_owned(),
    };
    *options = std::iter::once(auto).chain(kinds.iter().map(kind)).collect();
    *at = (*at).min(options.len() - 1);
    // Better than what the host takes: it may come true by the time of the start.
    let better = taken.is_some_and(|taken| *at > 0 && *at - 1 < taken);
    field.note = now.filter(|_| better).map(|now| format!("this host takes {now}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_says_what_it_would_be_and_more_than_the_host_takes_is_noted() {
        let mut form = Form::new(fields().into());
        follow(&mut form, &HostView::default());
        assert_eq!(form.field(Item::Advanced).placeholder, HIDDEN);
        let host = HostView {
            vmm: Some(VmmKind::QemuTcg),
            vmm_reason: "no KVM".to_owned(),
            network: Some(NetworkKind::Tap),
            ..HostView::default()
        };
        follow(&mut form, &host);
        let notes = |form: &Form<Item>, item| match &form.field(item).kind {
            Kind::Choice { options, .. } => options[0].note.clone(),
            _ => unreachable!("it is a choice"),
        };
        assert_eq!(notes(&form, VMM), "now QEMU/TCG: no KVM");
        assert_eq!(notes(&form, NETWORK), "now bridge");
        assert_eq!(notes(&form, OVERLAY), "the host's best");
        form.field_mut(VMM).set("firecracker");
        form.field_mut(NETWORK).set("user");
        follow(&mut form, &host);
        let note = form.field(VMM).note.as_deref();
        assert_eq!(note, Some("this host takes QEMU/TCG: no KVM"));
        assert_eq!(form.field(NETWORK).note, None, "less is always possible");
        assert_eq!(form.field(VMM).value(), "firecracker");
        assert_eq!(form.field(Item::Advanced).placeholder, "firecracker, user");
        form.field_mut(KEY).set("~/.ssh/me.pub");
        follow(&mut form, &host);
        assert_eq!(form.field(Item::Advanced).placeholder, "firecracker, user, SSH keys");
    }
}
