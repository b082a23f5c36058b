//! What each screen looks like at each size, and what holds at all of them.

use core::net::Ipv4Addr;
use std::time::Duration;

use crate::{
    domain::{
        Fill, Fleet, JobId, JobState, JobView, NetworkKind, OverlayKind, Phase, Problem,
        SshEndpoint, UnixMs, VmView, VmmKind,
    },
    tui::{
        harness::Ui,
        testing::{fleet, vm},
    },
};

pub fn some() -> Fleet {
    let mut crashed = vm(4, "build", Phase::Crashed);
    crashed.problem =
        Some(Problem::new("build crashed", "the guest's kernel panicked", "see its console log"));
    let web = VmView {
        spec: crate::domain::VmSpec {
            image: "debian".into(),
            vcpus: 2,
            memory_mib: 2048,
            ..vm(1, "web", Phase::Running).spec
        },
        ..vm(1, "web", Phase::Running)
    };
    fleet(vec![crashed, vm(2, "db", Phase::Stopped), vm(3, "queue", Phase::Booting), web])
}

pub fn job(id: u64, state: JobState) -> JobView {
    JobView {
        id: JobId(id),
        title: "start queue".into(),
        vm: None,
        state,
        steps: Vec::new(),
        log: Vec::new(),
        started: UnixMs(99_990_000),
        ended: None,
        cancellable: true,
    }
}

/// On a host that has everything: one machine is in trouble, the other fills up.
pub fn bridged() -> Fleet {
    let on_bridge = |id: u32, name: &str, phase, last: u8| {
        let address = Ipv4Addr::new(172, 30, 4, last);
        let mut vm = vm(id, name, phase);
        vm.vmm = Some(VmmKind::Firecracker);
        vm.overlay = OverlayKind::DmSnapshot;
        vm.network = Some(NetworkKind::Tap);
        vm.address = Some(address);
        vm.ssh = Some(SshEndpoint { host: address.to_string(), port: 22 });
        vm
    };
    let mut db = on_bridge(2, "db", Phase::Paused, 2);
    let fill = |used: u64| Some(Fill { used, total: 1 << 30, overflowed: false });
    db.fill = fill(900 << 20);
    db.problem = Some(Problem::new(
        "db is paused",
        "the host's disk is full",
        "make room below /home: it goes on by itself",
    ));
    let mut web = on_bridge(1, "web", Phase::Running, 3);
    web.fill = fill(130 << 20);
    web.dns_name = Some("web.vm".to_owned());
    web.spec.wishes.vmm = Some(VmmKind::Firecracker);
    let mut fleet = fleet(vec![db, web]);
    fleet.host.vmm = Some(VmmKind::Firecracker);
    fleet.host.vmm_reason = String::new();
    fleet.host.network = Some(NetworkKind::Tap);
    fleet.host.overlay = Some(OverlayKind::DmSnapshot);
    fleet
}

macro_rules! look {
    ($name:ident, $columns:literal x $rows:literal, $keys:literal) => {
        look!($name, some(), $columns x $rows, $keys);
    };
    ($name:ident, $fleet:expr, $columns:literal x $rows:literal, $keys:literal) => {
        #[test]
        fn $name() {
            let mut ui = Ui::new($columns, $rows, $fleet);
            ui.send_keys($keys);
            insta::assert_snapshot!(ui.screen());
        }
    };
}

look!(machines_80x24, 80 x 24, "");
look!(machines_200x50, 200 x 50, "G");
look!(machines_100x40_with_detail, 100 x 40, "G<enter>");
look!(machines_80x24_detail, 80 x 24, "G<enter>");
look!(machines_80x24_console_of_one_that_is_off, 80 x 24, "jl");
look!(machines_80x24_filtered_and_marked, 80 x 24, " /!state:stopped<enter>");
look!(too_small_40x12, 40 x 12, "");
look!(too_small_10x3, 10 x 3, "");
look!(stop_80x24, 80 x 24, "Gx");
look!(delete_80x24, 80 x 24, "jd");
look!(rename_80x24, 80 x 24, "jR");
look!(machines_80x24_bridged, bridged(), 80 x 24, "");
look!(machines_80x24_bridged_detail, bridged(), 80 x 24, "<enter>");
look!(machines_200x50_bridged, bridged(), 200 x 50, "G");
look!(panes_empty_80x24, 80 x 24, "2");

#[test]
fn an_empty_fleet_tells_the_next_key_and_loading_says_so() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    insta::assert_snapshot!(ui.screen());
    ui.picture(|fleet| *fleet = Fleet::default());
    assert!(ui.screen().contains("loading …"), "{}", ui.screen());
    assert!(!ui.screen().contains("No machines"), "{}", ui.screen());
}

#[test]
fn a_prefix_shows_what_can_follow_after_a_moment() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys(",");
    assert!(!ui.screen().contains("Sort by memory"), "not at once");
    ui.pass(Duration::from_millis(300));
    insta::assert_snapshot!(ui.screen());
    ui.send_keys("<esc>");
    assert!(!ui.screen().contains("Sort by memory"));
}

#[test]
fn every_size_is_drawn_without_harm() {
    for columns in [1, 2, 10, 59, 60, 80, 119, 120, 300] {
        for rows in [1, 2, 3, 14, 15, 24, 36, 60] {
            let mut ui = Ui::new(columns, rows, some());
            for keys in [
                "G<enter>", "l", "?", "<esc>", ":", "<esc>", "n", "<esc>", "d", "2", "3",
                "<enter>", "4",
            ] {
                ui.send_keys(keys);
            }
            ui.send_keys("1<esc>x");
            ui.resize(rows.max(1), columns);
        }
    }
}

#[test]
fn text_of_others_never_becomes_an_escape() {
    let mut evil = some();
    let vm = std::sync::Arc::make_mut(&mut evil.vms[0]);
    vm.spec.image = "x\u{1b}]52;c;aGk=\u{7}y\u{9b}31m".into();
    let text = "a\u{1b}[2Jb\r\n\u{202e}c";
    vm.problem = Some(Problem::new(text, text, text));
    evil.jobs.push(JobView {
        title: text.into(),
        log: vec![text.into()],
        ..job(1, JobState::Failed { problem: Problem::new(text, text, text) })
    });
    let mut ui = Ui::new(160, 50, evil);
    let notice = |n: u64| crate::domain::Notice {
        at: UnixMs(n),
        level: crate::domain::NoticeLevel::Error,
        vm: None,
        job: None,
        text: text.into(),
        hint: text.into(),
    };
    ui.event(crate::tui::event::UiEvent::Notice(notice(1)));
    for keys in ["<enter>", "3", "<enter>", "4", "<enter>", "H", "<esc>", "1", "/x<enter>", "n"] {
        ui.send_keys(keys);
        let bad = |c: char| c != '\n' && crate::tui::text::is_harmful(c);
        assert!(!ui.screen().contains(bad), "{keys}: {:?}", ui.screen());
    }
}

#[test]
fn a_thousand_machines_cost_what_is_seen() {
    let many = fleet((0..1000).map(|n| vm(n, &format!("vm-{n:04}"), Phase::Running)).collect());
    let mut ui = Ui::new(80, 24, many);
    ui.send_keys("G");
    assert!(ui.screen().contains("vm-0999") && !ui.screen().contains("vm-0900"));
    ui.send_keys("<ctrl-u>gg");
    assert!(ui.screen().contains("vm-0000"));
    // A flood of pictures is taken in one after the other, and the cursor stays where it is.
    ui.send_keys("jj");
    for _ in 0..50 {
        ui.picture(|_| {});
    }
    assert_eq!(
        ui.app.state.selected_vm().map(|vm| vm.spec.name.to_string()).as_deref(),
        Some("vm-0002")
    );
}

#[test]
fn names_that_differ_at_their_ends_can_be_told_apart() {
    let names = ["customer-portal-production-1", "customer-portal-production-2"];
    let vms = (1..).zip(names).map(|(id, name)| vm(id, name, Phase::Stopped));
    let mut ui = Ui::new(80, 24, fleet(vms.collect()));
    let ends = |ui: &Ui| names.map(|name| ui.screen().contains(&name[name.len() - 6..]));
    assert_eq!(ends(&ui), [true, true], "{}", ui.screen());
    // What the filter found is marked where it stands.
    ui.send_keys("/tion-2<enter>");
    assert_eq!(ends(&ui), [false, true], "{}", ui.screen());
    let at = ui.find("production-2").expect("it is shown");
    let style = |x| ui.buffer()[(at.x + x, at.y)].style();
    assert_eq!(style(6), style(11));
    assert_ne!(style(5), style(6), "{}", ui.screen());
}

#[test]
fn what_scrolls_does_not_go_beyond_its_end() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("?G");
    let end = ui.screen();
    ui.send_keys(&"j".repeat(20));
    assert_eq!(ui.screen(), end);
    ui.send_keys("k");
    assert_ne!(ui.screen(), end, "one key back is one row back");
}
