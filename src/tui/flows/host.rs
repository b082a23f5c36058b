//! The Host screen: checks, the ledger, what is left over, what was run.

use std::sync::Arc;

use super::screens::some;
use crate::{
    domain::{
        Admission, CheckView, CommandBody, Denied, Fleet, HostCall, HostReport, JobId, JobState,
        MadeState, MadeView, OrphanView, Phase, Problem, UnixMs, VmId,
    },
    tui::{harness::Ui, state::Screen},
};

const NOW: u64 = 100_000_000;

fn made(owner: &str, kind: &str, key: &str, state: MadeState) -> MadeView {
    MadeView {
        vm: None,
        owner: owner.into(),
        kind: kind.into(),
        key: key.into(),
        created: UnixMs(NOW - 3_700_000),
        state,
    }
}

fn call(ago_s: u64, vm: Option<u32>, command: &str, error: Option<&str>) -> HostCall {
    HostCall {
        at: UnixMs(NOW - ago_s * 1_000),
        vm: vm.map(|n| VmId::from_bytes(n.to_be_bytes())),
        command: command.into(),
        took_us: 340 * ago_s,
        error: error.map(Into::into),
    }
}

fn report() -> HostReport {
    let orphan = |what: &str, whose: &str, command: &str| OrphanView {
        what: what.into(),
        whose: whose.into(),
        command: command.into(),
    };
    HostReport {
        at: UnixMs(NOW - 2_000),
        checks: vec![
            CheckView::warning(
                "vmm",
                "QEMU/TCG runs VMs, many times slower than KVM",
                "the CPU has neither vmx nor svm",
                "load the module (modprobe kvm-intel or kvm-amd), switch virtualization on in \
                 the firmware, or in the hypervisor if this is a VM (nested virtualization)",
            ),
            CheckView::ok("qemu", "/usr/bin/qemu-system-x86_64 is version 7.2.19", ""),
            CheckView::ok("database", "/root/.local/state/banger/banger.db is sound, 4 VMs", ""),
            CheckView::failed(
                "ssh",
                Problem::new(
                    "ssh cannot be found in PATH",
                    "shells in VMs are opened with it",
                    "install it: sudo apt-get install openssh-client",
                ),
            ),
        ],
        made: vec![
            made("shared", "bridge", "bgr-3fa2c1", MadeState::There),
            made("web", "TAP", "bgt-00000001", MadeState::There),
            made("web", "nft element", "banger_3fa2c1 172.30.4.3", MadeState::Unknown),
            made("web", "loop", "/dev/loop3", MadeState::Missing),
            made("build", "process", "12345", MadeState::OfDead),
        ],
        orphans: vec![
            orphan(
                "TAP bgt-0a1b2c3d",
                "of a VM that is gone, in no ledger",
                "ip link delete bgt-0a1b2c3d",
            ),
            orphan(
                "directory /run/banger/0a1b2c3d",
                "of a VM that is gone",
                "rm -r /run/banger/0a1b2c3d",
            ),
        ],
        calls: vec![
            call(90, None, "ip link add bgr-3fa2c1 type bridge", None),
            call(60, Some(1), "ip tuntap add bgt-00000001 mode tap", None),
            call(
                30,
                Some(9),
                "nft -j -f - <<< '{\"nftables\":[{\"add\":{\"element\":{\"family\":\"inet\",\
                 \"table\":\"banger_3fa2c1\",\"name\":\"guests\",\"elem\":[\"172.30.4.3\"]}}}]}'",
                Some("netlink: Operation not permitted (os error 1)"),
            ),
        ],
    }
}

fn looked() -> Fleet {
    Fleet { report: Some(Arc::new(report())), ..some() }
}

/// The screen, with what the look that it asked for has found.
fn host(columns: u16, rows: u16) -> Ui {
    let mut ui = Ui::new(columns, rows, some());
    ui.send_keys("5");
    assert_eq!(ui.command(), CommandBody::LookAtHost);
    ui.picture(|fleet| *fleet = looked());
    ui
}

macro_rules! look {
    ($name:ident, $columns:literal x $rows:literal, $keys:literal) => {
        #[test]
        fn $name() {
            let mut ui = host($columns, $rows);
            ui.send_keys($keys);
            insta::assert_snapshot!(ui.screen());
        }
    };
}

look!(checks_80x24, 80 x 24, "j");
look!(checks_200x50, 200 x 50, "");
look!(checks_60x15, 60 x 15, "");
look!(made_80x24, 80 x 24, "l");
look!(left_over_80x24, 80 x 24, "ll");
look!(clean_80x24, 80 x 24, "c");
look!(what_was_run_80x24, 80 x 24, "h");
look!(what_was_run_200x50, 200 x 50, "h");
look!(what_was_run_whole_80x24, 80 x 24, "h<enter>");

#[test]
fn it_looks_when_it_is_opened_and_never_waits() {
    let mut ui = Ui::new(80, 24, some());
    assert!(ui.is_quiet(), "nobody looks before it is wanted");
    ui.send_keys("5");
    insta::assert_snapshot!("looking_80x24", ui.screen());
    assert!(ui.app.state.is_busy(), "something turns");
    // Everything works meanwhile.
    ui.send_keys("l?<esc>15");
    assert_eq!(ui.command(), CommandBody::LookAtHost);
    assert!(ui.screen().contains("looking"), "{}", ui.screen());
    // The answer to the first had come while another screen was shown; it looks once more.
    assert_eq!(ui.answer(Admission::Ignored("already".into())), CommandBody::LookAtHost);
    assert!(!ui.screen().contains("already"), "no news: {}", ui.screen());
    ui.picture(|fleet| *fleet = looked());
    assert!(ui.screen().contains("looked at 2s ago"), "{}", ui.screen());
    assert!(ui.is_quiet());
    ui.send_keys("r");
    assert!(ui.screen().contains("looking …"), "{}", ui.screen());
    assert!(ui.screen().contains("bgt-00000001"), "what was found stays: {}", ui.screen());
    assert_eq!(ui.command(), CommandBody::LookAtHost);
    let same = |fleet: &mut Fleet| fleet.report = Some(Arc::new(report()));
    ui.picture(same);
    // A machine does something else: so there is more to see, while it is looked at.
    let run = |fleet: &mut Fleet| Arc::make_mut(&mut fleet.vms[1]).phase = Phase::Starting;
    ui.picture(run);
    assert_eq!(ui.command(), CommandBody::LookAtHost);
    ui.picture(same);
    ui.send_keys("1");
    ui.picture(|fleet| Arc::make_mut(&mut fleet.vms[1]).phase = Phase::Booting);
    assert!(ui.is_quiet(), "nobody sees it");
}

#[test]
fn that_somebody_looks_already_is_no_news_on_another_screen() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("51");
    assert_eq!(ui.answer(Admission::Ignored("looked at already".into())), CommandBody::LookAtHost);
    assert!(!ui.screen().contains("already"), "{}", ui.screen());
}

#[test]
fn a_look_that_fails_says_why() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("5");
    let problem = || Problem::new("cannot look at the host", "it is dark", "switch on the light");
    ui.answer(Admission::Denied(Denied(problem())));
    assert!(ui.screen().contains("✗ cannot look at the host: it is dark"), "{}", ui.screen());
    ui.send_keys("r");
    ui.answer(Admission::Queued(JobId(3)));
    assert!(ui.screen().contains("looking …"), "{}", ui.screen());
    let mut job = super::screens::job(3, JobState::Failed { problem: problem() });
    job.title = "look at the host".into();
    ui.picture(|fleet| fleet.jobs.push(job));
    assert!(ui.screen().contains("it is dark"), "{}", ui.screen());
    ui.kill_supervisor();
    ui.send_keys("<esc>r");
    assert!(ui.screen().contains("the supervisor has ended"), "{}", ui.screen());
}

#[test]
fn cleaning_shows_exactly_what_goes_and_needs_enter() {
    let mut ui = host(80, 24);
    // From any list; a filter does not make it less.
    ui.send_keys("/ssh<enter>c");
    let screen = ui.screen();
    for text in ["$ ip link delete bgt-0a1b2c3d", "$ rm -r /run/banger/0a1b2c3d", "these 2 things"]
    {
        assert!(screen.contains(text), "{text}: {screen}");
    }
    ui.send_keys("y");
    assert_eq!(ui.copied, ["ip link delete bgt-0a1b2c3d\nrm -r /run/banger/0a1b2c3d"]);
    ui.send_keys("nxd<esc>");
    assert!(ui.is_quiet(), "only Enter does it");
    ui.send_keys("c");
    // What is removed is what the newest look found: so that is shown.
    let fewer = HostReport { orphans: report().orphans[..1].to_vec(), ..report() };
    ui.picture(|fleet| fleet.report = Some(Arc::new(fewer)));
    assert!(ui.screen().contains("this list is another now"), "{}", ui.screen());
    assert!(!ui.screen().contains("rm -r"), "{}", ui.screen());
    ui.send_keys("<enter>");
    assert_eq!(ui.command(), CommandBody::CleanHost);
    let clean = HostReport { orphans: Vec::new(), ..report() };
    ui.picture(|fleet| fleet.report = Some(Arc::new(clean)));
    assert!(ui.screen().contains("Nothing is left over"), "{}", ui.screen());
    ui.send_keys("c");
    assert!(ui.is_quiet());
    assert!(ui.screen().contains("nothing is left over"), "{}", ui.screen());
}

#[test]
fn an_open_preview_closes_when_there_is_nothing_any_more() {
    let mut ui = host(80, 24);
    ui.click("Left over");
    ui.send_keys("c");
    let clean = HostReport { orphans: Vec::new(), ..report() };
    ui.picture(|fleet| fleet.report = Some(Arc::new(clean)));
    ui.send_keys("<enter>");
    assert!(ui.is_quiet(), "{}", ui.screen());
    // With the mouse.
    ui.picture(|fleet| *fleet = looked());
    ui.send_keys("<esc>c");
    ui.click("[ Remove");
    assert_eq!(ui.command(), CommandBody::CleanHost);
}

#[test]
fn the_newest_call_is_on_top_and_a_line_that_is_read_stays() {
    let mut ui = host(80, 24);
    ui.send_keys("h");
    let newer = |command: &'static str| {
        move |fleet: &mut Fleet| {
            let mut report = HostReport::clone(fleet.report.as_ref().unwrap());
            report.calls.push(call(1, Some(1), command, None));
            fleet.report = Some(Arc::new(report));
        }
    };
    ui.picture(newer("ip link set one up"));
    ui.send_keys("y");
    assert_eq!(ui.copied, ["ip link set one up"], "on top the cursor follows");
    ui.send_keys("jj");
    ui.picture(newer("ip link set two up"));
    ui.send_keys("y");
    assert_eq!(ui.copied[1], "ip tuntap add bgt-00000001 mode tap");
    // The filter looks at the errors too.
    ui.send_keys("/permitted<enter>y<enter>");
    ui.pass(std::time::Duration::from_secs(4));
    assert!(ui.copied[2].starts_with("nft -j -f -"), "{:?}", ui.copied);
    assert!(ui.screen().contains("Operation not permitted"), "{}", ui.screen());
    ui.send_keys("y<esc>");
    assert_eq!(ui.copied.len(), 4);
    ui.send_keys("/zzz");
    assert!(ui.screen().contains("No line fits"), "{}", ui.screen());
    ui.send_keys("<esc>G");
    assert!(ui.screen().contains("ip link add bgr-3fa2c1"), "{}", ui.screen());
    ui.send_keys("<esc>");
    assert_eq!(ui.app.state.screen, Screen::Machines);
}

#[test]
fn wrong_keys_on_it_say_why() {
    let mut ui = host(80, 24);
    for (keys, why) in [
        ("y", "there is no command in this line"),
        ("n", "n does nothing here"),
        ("6", "6 does nothing here"),
    ] {
        ui.send_keys(keys);
        assert!(ui.screen().contains(why), "{keys}: {}", ui.screen());
        ui.send_keys("<esc>");
    }
    ui.send_keys("/zzz<enter><enter>");
    assert!(ui.screen().contains("there is no line"), "{}", ui.screen());
    ui.send_keys("<esc><esc>?");
    assert!(ui.screen().contains("Remove what is left over on the host"), "{}", ui.screen());
    // From elsewhere by name.
    ui.send_keys("<esc>1:host-clean<enter>");
    assert!(ui.screen().contains("Remove these 2 things"), "{}", ui.screen());
}

#[test]
fn it_is_drawn_at_any_size_whatever_is_in_it() {
    let text = "a\u{1b}]52;c;aGk=\u{7}\u{9b}31m\u{202e}\n".repeat(50);
    let mut evil = report();
    evil.checks[0] = CheckView::warning("vmm", &text, &text, &text);
    evil.orphans[0] = OrphanView { what: text.clone(), whose: text.clone(), command: text.clone() };
    evil.made[0] = made(&text, &text, &text, MadeState::There);
    evil.calls = vec![call(1, None, &text, Some(&text)); 300];
    for (columns, rows) in [(1, 1), (10, 3), (60, 15), (80, 24), (119, 40), (120, 15), (300, 60)] {
        let mut ui = Ui::new(columns, rows, some());
        ui.picture(|fleet| fleet.report = Some(Arc::new(evil.clone())));
        ui.send_keys("5");
        for keys in
            ["<enter>", "G", "<esc>", "l", "l", "c", "G", "<esc>", "l", "G", "<enter>", "<esc>"]
        {
            ui.send_keys(keys);
            let bad = |c: char| c != '\n' && crate::tui::text::is_harmful(c);
            assert!(!ui.screen().contains(bad), "{keys}: {:?}", ui.screen());
        }
    }
}
