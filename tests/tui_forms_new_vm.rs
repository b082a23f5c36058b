//! The New VM form, as a user meets it.

mod forms_kit;

use banger::{
    config::NewVm as Defaults,
    domain::{
        Admission, CommandBody, Fleet, JobId, NetworkKind, OverlayKind, Phase, VmmKind, Wishes,
    },
    tui::{
        action::Action,
        available::{Availability, availability},
        event::{Answer, LayerEvent},
        forms::new_vm::NewVm,
    },
};
use forms_kit::{Kit, denied, fleet, image, state, vm};

fn open() -> Kit<NewVm> {
    let mut state = state(fleet());
    let form = NewVm::open(&mut state);
    Kit::new(form, state)
}

fn queued() -> Answer {
    Answer::Admission(Admission::Queued(JobId(1)))
}

#[test]
fn enter_at_once_makes_and_starts_a_machine_that_is_named_and_sized() {
    let mut kit = open();
    insta::assert_snapshot!("new_vm_80x24", kit.screen(80, 24));
    kit.keys("enter");
    let commands = kit.commands();
    let [CommandBody::Create { spec, start: true }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    // `debian-1` is taken.
    assert_eq!((spec.name.as_str(), spec.image.as_str()), ("debian-2", "debian"));
    assert_eq!((spec.vcpus, spec.memory_mib, spec.disk_mib, spec.restore), (1, 512, None, false));
    assert!(kit.wishes.is_empty(), "it waits for the answer");
    assert!(kit.screen(80, 24).contains("Creating…"));
    kit.keys("enter");
    assert_eq!(kit.commands().len(), 1, "once is enough");
    kit.answer(&queued());
    assert_eq!(kit.wishes, ["close"]);
}

#[test]
fn every_field_reaches_the_spec() {
    let mut kit = open();
    kit.keys("ctrl-u");
    kit.text("web");
    kit.keys("tab right tab + + tab + tab");
    kit.text("4G");
    kit.keys("tab space tab space enter");
    let commands = kit.commands();
    let [CommandBody::Create { spec, start: false }] = commands.as_slice() else {
        panic!("{commands:?}\n{}", kit.screen(80, 24))
    };
    assert_eq!((spec.name.as_str(), spec.image.as_str()), ("web", "tiny"));
    // Memory follows the image until it is touched: tiny's 128 MiB, doubled.
    assert_eq!((spec.vcpus, spec.memory_mib, spec.disk_mib), (3, 256, Some(4096)));
    assert!(spec.restore);
}

#[test]
fn name_and_memory_follow_the_image_until_they_are_touched() {
    let mut kit = open();
    kit.keys("tab right");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("tiny-1") && screen.contains("128 MiB"), "{screen}");
    kit.keys("shift-tab x shift-tab shift-tab shift-tab shift-tab shift-tab + tab tab tab tab tab tab right");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("tiny-1x") && screen.contains("256 MiB"), "{screen}");
    assert!(screen.contains("‹ debian ›"), "{screen}");
}

#[test]
fn the_users_defaults_come_first() {
    let mut state = state(fleet());
    state.new_vm.defaults =
        Defaults { image: Some("tiny".into()), vcpus: 2, memory_mib: Some(2048) };
    let form = NewVm::open(&mut state);
    let mut kit = Kit::new(form, state);
    kit.keys("enter");
    let commands = kit.commands();
    let [CommandBody::Create { spec, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!((spec.image.as_str(), spec.vcpus, spec.memory_mib), ("tiny", 2, 2048));
}

#[test]
fn keys_that_come_before_it_is_known_what_there_is_are_not_lost() {
    let mut state = state(Fleet::default());
    state.new_vm.defaults.image = Some("tiny".into());
    assert_eq!(availability(&state, Action::VmNew), Availability::Ready);
    let form = NewVm::open(&mut state);
    let mut kit = Kit::new(form, state);
    kit.keys("enter");
    assert!(kit.commands().is_empty() && kit.screen(80, 24).contains("Creating…"));
    let mut known = fleet();
    // The machines come first, then the images.
    kit.fleet(Fleet { loaded: true, vms: known.vms.clone(), ..Fleet::default() });
    assert!(kit.commands().is_empty());
    known.generation = 2;
    kit.fleet(known.clone());
    let commands = kit.commands();
    let [CommandBody::Create { spec, start: true }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!((spec.name.as_str(), spec.image.as_str()), ("tiny-1", "tiny"));
    kit.fleet(known);
    assert_eq!(kit.commands().len(), 1, "once is enough");
}

#[test]
fn problems_stand_at_their_fields_all_at_once_and_go_as_they_are_solved() {
    let mut kit = open();
    kit.keys("ctrl-u");
    kit.text("Web_1");
    kit.keys("tab tab ctrl-u 0 tab ctrl-u");
    kit.text("10TiB");
    kit.keys("tab");
    kit.text("1M");
    assert!(!kit.screen(80, 24).contains('✗'), "not before the first try");
    kit.keys("enter");
    assert!(kit.commands().is_empty());
    insta::assert_snapshot!("new_vm_problems_80x24", kit.screen(80, 24));
    // The focus is at the first of them, and what is typed is judged at once.
    kit.keys("ctrl-u w e b");
    let screen = kit.screen(80, 24);
    assert!(!screen.contains("cannot be in a name"), "{screen}");
    assert_eq!(screen.matches('✗').count(), 3, "{screen}");
    kit.keys("ctrl-u");
    kit.text("debian-1");
    assert!(kit.screen(80, 24).contains("this name is taken"));
}

#[test]
fn a_name_of_three_hundred_characters_and_a_pasted_megabyte_are_one_problem() {
    let mut kit = open();
    kit.keys("ctrl-u");
    kit.send(&LayerEvent::Paste(&"x".repeat(300)));
    kit.keys("enter");
    assert!(kit.screen(80, 24).contains("at most 63 characters, this one has 300"));
    kit.keys("ctrl-u");
    kit.send(&LayerEvent::Paste(&"y\u{1b}[2J\n".repeat(150_000)));
    kit.keys("enter");
    assert!(kit.commands().is_empty());
    let screen = kit.screen(80, 24);
    assert!(!screen.contains('\u{1b}'), "{screen}");
    assert_eq!(screen.lines().count(), 24);
}

#[test]
fn memory_and_cpus_beyond_the_host_are_noted_but_possible() {
    let mut kit = open();
    kit.keys("tab tab ctrl-u 8 tab ctrl-u");
    kit.text("6G");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("! more than the 4 CPUs of this host"), "{screen}");
    assert!(screen.contains("! more than is free on this host now: 5 GiB"), "{screen}");
    kit.keys("ctrl-u");
    kit.text("16G");
    assert!(kit.screen(80, 24).contains("! more than this host has: 8 GiB"));
    kit.keys("enter");
    assert_eq!(kit.commands().len(), 1);
}

#[test]
fn escape_keeps_the_draft_and_success_does_not() {
    let mut kit = open();
    kit.text("x");
    kit.keys("tab right esc");
    assert_eq!(kit.wishes, ["close"]);
    let again = NewVm::open(&mut kit.state);
    let mut kit = Kit::new(again, kit.state);
    let screen = kit.screen(80, 24);
    assert!(screen.contains("debian-2x") && screen.contains("‹ tiny ›"), "{screen}");
    kit.keys("enter");
    kit.answer(&queued());
    let fresh = NewVm::open(&mut kit.state);
    assert!(Kit::new(fresh, kit.state).screen(80, 24).contains("debian-2▏"));
}

#[test]
fn what_the_supervisor_denies_is_told_in_the_form_and_nothing_typed_is_lost() {
    let mut kit = open();
    kit.keys("enter");
    kit.answer(&denied(
        "cannot make debian-2",
        "the disk has 200 MiB free and the image takes 245 MiB",
        "free some space, or set BANGER_STATE_DIR to another disk",
    ));
    assert!(kit.wishes.is_empty(), "it stays open");
    insta::assert_snapshot!("new_vm_denied_80x24", kit.screen(80, 24));
    kit.keys("enter");
    assert_eq!(kit.commands().len(), 2, "it can be tried again");
    kit.answer(&Answer::Busy);
    assert!(kit.screen(80, 24).contains("press Enter again in a moment"));
    kit.keys("3");
    assert!(!kit.screen(80, 24).contains('✗'), "a change takes the denial away");
}

#[test]
fn the_form_follows_the_fleet_while_it_is_open() {
    let mut kit = open();
    kit.keys("tab right shift-tab");
    let mut newer = fleet();
    newer.images.insert(0, image("alpine", "from elsewhere", 1, 256));
    newer.vms.push(vm(2, "tiny-1", Phase::Creating).into());
    kit.fleet(newer);
    let screen = kit.screen(80, 24);
    assert!(screen.contains("tiny-2"), "the suggested name moves on: {screen}");
    assert!(screen.contains("tiny  "), "the choice stays: {screen}");
}

#[test]
fn without_any_image_it_says_so() {
    let mut state = state(banger::domain::Fleet { images: Vec::new(), ..fleet() });
    let form = NewVm::open(&mut state);
    let mut kit = Kit::new(form, state);
    kit.keys("enter");
    let screen = kit.screen(80, 24);
    assert!(
        screen.contains("there is no image yet") && screen.contains("an image is needed"),
        "{screen}"
    );
}

#[test]
fn it_fits_large_and_small_screens() {
    let mut kit = open();
    insta::assert_snapshot!("new_vm_200x50", kit.screen(200, 50));
    kit.keys("ctrl-u tab tab ctrl-u tab ctrl-u tab 1 enter");
    for (columns, rows) in [(60, 15), (40, 12), (10, 3), (1, 1)] {
        for _ in 0..7 {
            kit.keys("tab");
            kit.screen(columns, rows);
        }
    }
    // The field with the focus is in sight, with its problem.
    kit.keys("enter");
    let screen = kit.screen(60, 15);
    assert!(screen.contains("› Name") && screen.contains("a name is needed"), "{screen}");
}

#[test]
fn the_advanced_part_is_folded_until_it_is_wanted() {
    let mut host = fleet();
    host.host.vmm = Some(VmmKind::QemuTcg);
    host.host.vmm_reason = "the CPU has neither vmx nor svm".into();
    host.host.network = Some(NetworkKind::Tap);
    let mut state = state(host);
    let form = NewVm::open(&mut state);
    let mut kit = Kit::new(form, state);
    assert!(!kit.screen(80, 24).contains("Overlay"));
    // Backwards from the first field is the row that unfolds it.
    kit.keys("shift-tab space tab");
    insta::assert_snapshot!("new_vm_advanced_80x24", kit.screen(80, 24));
    // What does not fit each other is told where it is, even behind the fold.
    kit.keys("right tab right right shift-tab shift-tab left");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("▸ firecracker, user") && !screen.contains("‹"), "{screen}");
    kit.keys("enter");
    assert!(kit.commands().is_empty());
    let screen = kit.screen(80, 24);
    assert!(screen.contains("✗ Firecracker has no user network"), "{screen}");
    assert!(screen.contains("! this host takes QEMU/TCG: the CPU has neither"), "{screen}");
    // The focus is there; the letter of a word chooses it.
    kit.keys("a shift-tab q q tab tab s enter");
    let commands = kit.commands();
    let [CommandBody::Create { spec, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    let wishes = Wishes {
        vmm: Some(VmmKind::QemuTcg),
        network: None,
        overlay: Some(OverlayKind::SparseCopy),
    };
    assert_eq!(spec.wishes, wishes);
}
