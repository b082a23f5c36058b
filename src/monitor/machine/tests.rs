//! Lives of a machine that is not there.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    domain::{HostCall, NetworkKind, UnixMs, VmId, VmmKind},
    host::pty,
    vmm::fake::{FakeBackend, Script},
};

/// A stage that notes nothing and counts its ports; up to a number of them it was replaced. It says
/// what the user should know.
struct Ports(u16, u16, Option<Problem>);

impl Stage for Ports {
    fn set(&mut self) -> Result<Set, Problem> {
        self.0 += 1;
        let spec = MachineSpec {
            vm: VmId::from_bytes([0; 4]),
            vcpus: 1,
            memory_mib: 64,
            kernel: "/vmlinux".into(),
            initrd: "/initrd".into(),
            cmdline: String::new(),
            disks: Vec::new(),
            nics: Vec::new(),
            socket: "/none".into(),
        };
        let ssh = SshEndpoint { host: "127.0.0.1".into(), port: self.0 };
        let note = self.2.clone();
        Ok(Set { machine: spec, ssh, address: None, note })
    }

    fn launched(&mut self, _pid: u32) {}

    fn is_whole(&self) -> bool {
        self.0 > self.1
    }
}

/// What a test holds of a life.
struct Outside {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<MonitorStatus>,
    markers: mpsc::Sender<Marker>,
    ran: Arc<Mutex<Vec<HostCall>>>,
    /// The host's end of the console: without it the guest's prints fail.
    _console: OwnedFd,
}

impl Outside {
    async fn until(&mut self, what: &str, is: impl Fn(&MonitorStatus) -> bool) -> MonitorStatus {
        self.status.wait_for(|now| is(now)).await.expect(what).clone()
    }
}

/// Lets a machine live, while a test does something to it.
async fn live<T>(
    backend: &FakeBackend,
    test: impl AsyncFnOnce(&mut Outside) -> T,
) -> (ExitReason, T) {
    live_on(Ports(1000, 0, None), backend, test).await
}

/// As [`live`], on this stage.
async fn live_on<T>(
    mut ports: Ports,
    backend: &FakeBackend,
    test: impl AsyncFnOnce(&mut Outside) -> T,
) -> (ExitReason, T) {
    let (master, console) = pty::open_raw().expect("pty");
    let (marked, markers) = mpsc::channel(8);
    let (order, orders) = mpsc::channel(8);
    let clock = Clock::start();
    let (status, watched) = watch::channel(MonitorStatus {
        vm: VmId::from_bytes([0; 4]),
        pid: 1,
        vmm_pid: None,
        vmm: VmmKind::QemuTcg,
        phase: MonitorPhase::Preparing,
        since: UnixMs(0),
        ssh: None,
        boot: BootTimes::default(),
        network: NetworkKind::User,
        address: None,
        dns_name: None,
        fill: None,
        problem: None,
    });
    let ran = Arc::new(Mutex::new(Vec::new()));
    let record = |call| ran.lock().expect("not poisoned").push(call);
    let mut outside = Outside {
        orders: order,
        status: watched,
        markers: marked,
        ran: Arc::clone(&ran),
        _console: master,
    };
    let mut life = Life {
        name: "web",
        backend,
        console,
        markers,
        orders,
        status: &status,
        record: &record,
        clock,
    };
    tokio::join!(life.run(&mut ports), test(&mut outside))
}

async fn boot(outside: &mut Outside) {
    outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
    for marker in [Marker::Init, Marker::SwitchRoot, Marker::SshReady { uptime_ms: 5 }] {
        outside.markers.send(marker).await.expect("taken");
    }
    outside.until("ready", |s| s.phase == MonitorPhase::Ready).await;
    // As a guest does: it cannot know that it was heard.
    outside.markers.send(Marker::SshReady { uptime_ms: 1_005 }).await.expect("taken");
}

fn script() -> Script {
    Script::default()
}

#[tokio::test(start_paused = true)]
async fn a_boot_is_marked_and_a_polite_stop_is_credited_to_the_power_button() {
    let backend = FakeBackend::new(script());
    let (reason, marks) = live(&backend, async |outside| {
        boot(outside).await;
        let status = outside.status.borrow().clone();
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
        assert_eq!(status.ssh.expect("an address").port, 1001);
        status.boot.0.into_iter().map(|(mark, _)| mark).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::PowerButton });
    assert_eq!(marks, [BootMark::Vmm, BootMark::Init, BootMark::SwitchRoot, BootMark::Ssh]);
}

#[tokio::test(start_paused = true)]
async fn what_a_vmm_is_asked_is_written_down_with_how_it_went() {
    let backend = FakeBackend::new(script());
    backend.fail_launch(VmmError::PortTaken(1001));
    let (_, ran) = live(&backend, async |outside| {
        boot(outside).await;
        for still in [true, false] {
            crate::monitor::order::stand_still(&outside.orders, still, None).await.expect("done");
        }
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
        Arc::clone(&outside.ran)
    })
    .await;
    let ran = ran.lock().expect("not poisoned");
    assert!(ran.iter().all(|call| call.vm == Some(VmId::from_bytes([0; 4]))), "{ran:?}");
    let told: Vec<_> =
        ran.iter().map(|call| (call.command.as_str(), call.error.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("fake 00000000", Some("port 1001 of 127.0.0.1 is taken")),
            ("fake 00000000", None),
            ("fake Pause", None),
            ("fake Resume", None),
            ("fake PowerButton", None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_reboots_is_launched_again_and_one_that_panics_is_not() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        backend.end(MachineExit::GuestReboot);
        outside.until("again", |s| s.boot.0.len() == 1).await;
        boot(outside).await;
        outside.markers.send(Marker::KernelPanic).await.expect("taken");
        backend.end(MachineExit::GuestReboot);
    })
    .await;
    assert_eq!(reason, ExitReason::GuestPanic);
    assert_eq!(backend.launched().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_launched_of_two_runtime_directories_is_ended_and_launched_again() {
    let backend = FakeBackend::new(script());
    // Also when it does not come up, for a file that was there a moment ago.
    backend.fail_launch(VmmError::Unsupported);
    let (reason, port) = live_on(Ports(1000, 1002, None), &backend, async |outside| {
        boot(outside).await;
        let status = outside.status.borrow().clone();
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
        status.ssh.expect("an address").port
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::PowerButton });
    assert_eq!((port, backend.launched().len()), (1003, 2));
}

#[tokio::test(start_paused = true)]
async fn a_port_taken_meanwhile_is_replaced_but_not_for_ever() {
    let backend = FakeBackend::new(script());
    backend.fail_launch(VmmError::PortTaken(1001));
    let (reason, port) = live(&backend, async |outside| {
        let status = outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
        status.ssh.expect("an address").port
    })
    .await;
    assert_eq!(port, 1002);
    assert_eq!(reason, ExitReason::Stopped { by: Method::Kill });

    let backend = FakeBackend::new(script());
    for port in 0..=TRIES {
        backend.fail_launch(VmmError::PortTaken(u16::try_from(port).expect("small")));
    }
    let (reason, ()) = live(&backend, async |_| ()).await;
    assert!(matches!(reason, ExitReason::StartFailed { why } if why.contains("taken")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_guest_listens_does_not_wait_for_it() {
    let backend = FakeBackend::new(Script { ignore_power_button: true, ..script() });
    let (reason, ()) = live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        outside
            .orders
            .send(Order::Stop(StopLadder::polite(u64::from(u32::MAX))))
            .await
            .expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::VmmQuit });
}

#[tokio::test(start_paused = true)]
async fn a_kill_takes_over_from_a_polite_stop_that_nobody_heeds() {
    let deaf = Script { ignore_power_button: true, ..script() };
    let backend = FakeBackend::new(deaf);
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        outside
            .orders
            .send(Order::Stop(StopLadder::polite(u64::from(u32::MAX))))
            .await
            .expect("taken");
        let by = Method::PowerButton;
        outside.until("stopping", |s| s.phase == MonitorPhase::Stopping { by }).await;
        outside
            .orders
            .send(Order::Stop(StopLadder::polite(1)))
            .await
            .expect("taken, and not heeded");
        outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::Kill });
}

#[tokio::test(start_paused = true)]
async fn an_init_that_halts_and_a_vmm_that_dies_are_told_apart() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        let reason = "no disk".to_owned();
        outside.markers.send(Marker::Halted { reason }).await.expect("taken");
        backend.end(MachineExit::GuestPoweroff);
    })
    .await;
    assert_eq!(reason, ExitReason::StartFailed { why: "no disk".to_owned() });

    let backend = FakeBackend::new(script());
    let died = MachineExit::Unexpected { code: None, signal: Some(9), stderr: "killed".to_owned() };
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        backend.end(died.clone());
    })
    .await;
    assert_eq!(reason, died.reason());
}

fn immortal() -> Script {
    Script { outlives_poweroff: true, ..script() }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_powers_off_under_a_vmm_that_stays_is_off() {
    let backend = FakeBackend::new(immortal());
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        outside.markers.send(Marker::PowerDown).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::GuestPoweroff);

    let (reason, ()) = live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        let halted = Marker::Halted { reason: "no disk".to_owned() };
        outside.markers.send(halted).await.expect("taken");
        outside.markers.send(Marker::PowerDown).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::StartFailed { why: "no disk".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_heeds_the_power_button_under_a_vmm_that_stays_is_off_by_it() {
    let backend = FakeBackend::new(immortal());
    let (reason, status) = live(&backend, async |outside| {
        boot(outside).await;
        outside
            .orders
            .send(Order::Stop(StopLadder::polite(u64::from(u32::MAX))))
            .await
            .expect("taken");
        let by = Method::PowerButton;
        outside.until("stopping", |s| s.phase == MonitorPhase::Stopping { by }).await;
        outside.markers.send(Marker::PowerDown).await.expect("taken");
        outside.status.clone()
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::PowerButton });
    assert_eq!(status.borrow().phase, MonitorPhase::Stopping { by: Method::PowerButton });
}

#[tokio::test(start_paused = true)]
async fn a_vmm_that_ends_with_its_guest_is_left_to_do_so() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        outside.markers.send(Marker::PowerDown).await.expect("taken");
        outside.markers.reserve_many(8).await.expect("it has been seen");
        backend.end(MachineExit::GuestReboot);
        outside.until("again", |s| s.boot.0.len() == 1).await;
        outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::Kill });
    assert_eq!(backend.launched().len(), 2);
}

async fn still(outside: &Outside, still: bool, problem: Option<Problem>) -> Result<(), Problem> {
    crate::monitor::order::stand_still(&outside.orders, still, problem).await
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stands_still_is_paused_and_goes_on_as_it_was() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        still(outside, true, None).await.expect("paused");
        assert!(backend.paused());
        assert_eq!(outside.status.borrow().phase, MonitorPhase::Paused);
        // What it said before it stood still is heard late, and it still stands still.
        for marker in [Marker::Init, Marker::SwitchRoot, Marker::SshReady { uptime_ms: 5 }] {
            outside.markers.send(marker).await.expect("taken");
        }
        outside.until("all marks", |s| s.boot.0.len() == 4).await;
        assert_eq!(outside.status.borrow().phase, MonitorPhase::Paused);
        still(outside, false, None).await.expect("resumed");
        assert_eq!(outside.status.borrow().phase, MonitorPhase::Ready);

        still(outside, true, None).await.expect("paused");
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::PowerButton }, "it could hear that");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_was_paused_for_a_problem_is_not_let_go_on_to_stop() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        let problem = Problem::new("paused", "the disk is full", "make room");
        still(outside, true, Some(problem.clone())).await.expect("paused");
        assert_eq!(outside.status.borrow().problem, Some(problem));
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::VmmQuit });
    assert!(backend.paused(), "to the end");
}

#[tokio::test(start_paused = true)]
async fn what_is_heard_during_a_stop_does_not_begin_it_anew() {
    let deaf = Script { ignore_power_button: true, ..script() };
    let backend = FakeBackend::new(deaf);
    let (reason, ()) = live(&backend, async |outside| {
        boot(outside).await;
        outside.orders.send(Order::Stop(StopLadder::polite(10_000))).await.expect("taken");
        let by = Method::PowerButton;
        outside.until("stopping", |s| s.phase == MonitorPhase::Stopping { by }).await;
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(4)).await;
            // It may be off by now, and nobody listens any more.
            let _ = outside.markers.send(Marker::Init).await;
            let refused = still(outside, true, None).await.expect_err("too late");
            assert!(refused.why.contains("on its way down"));
        }
        outside.until("quit", |s| s.phase != MonitorPhase::Stopping { by }).await;
        assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::VmmQuit });
}

async fn send(outside: &Outside, markers: &[Marker]) {
    for marker in markers {
        outside.markers.send(marker.clone()).await.expect("taken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_ssh_runs_and_says_how_it_is_reached_until_ssh_comes() {
    let backend = FakeBackend::new(script());
    let (reason, ()) = live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        let up = Marker::Up { uptime_ms: 8_000 };
        send(outside, &[Marker::Init, Marker::SwitchRoot, up.clone()]).await;
        let status = outside.until("up", |s| s.phase == MonitorPhase::Ready).await;
        assert_eq!(status.ssh, None, "nothing answers there");
        let problem = status.problem.expect("a note");
        assert_eq!(problem.what, "no SSH server answers");
        assert!(problem.hint.contains("banger console web"), "{problem}");
        send(outside, &[up]).await;

        // A pause of the user's hides it: what is paused for a problem is not the user's to resume.
        let still = async |still| {
            crate::monitor::order::stand_still(&outside.orders, still, None).await.expect("done");
        };
        still(true).await;
        assert_eq!(outside.status.borrow().problem, None);
        still(false).await;
        let status = outside.status.borrow().clone();
        assert_eq!((status.phase, status.problem.is_some()), (MonitorPhase::Ready, true));

        send(outside, &[Marker::SshReady { uptime_ms: 90_000 }]).await;
        let status = outside.until("reached", |s| s.ssh.is_some()).await;
        let status = match status.problem {
            None => status,
            Some(_) => outside.until("nothing to say", |s| s.problem.is_none()).await,
        };
        assert_eq!(status.ssh.expect("an address").port, 1001);
        send(outside, &[Marker::Up { uptime_ms: 91_000 }]).await;
        outside.orders.send(Order::Stop(StopLadder::polite(1000))).await.expect("taken");
    })
    .await;
    assert_eq!(reason, ExitReason::Stopped { by: Method::PowerButton });
}

#[tokio::test(start_paused = true)]
async fn a_boot_that_goes_nowhere_is_told_of_with_how_far_it_came() {
    let reached = [
        (&[][..], "its kernel"),
        (&[Marker::Init][..], "the init of the initrd"),
        (&[Marker::Init, Marker::SwitchRoot][..], "the image's own init"),
    ];
    for (markers, why) in reached {
        let backend = FakeBackend::new(script());
        live(&backend, async |outside| {
            outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
            send(outside, markers).await;
            let begin = Instant::now();
            let status = outside.until("told", |s| s.problem.is_some()).await;
            assert_eq!(begin.elapsed().as_secs(), 240);
            assert_eq!(status.phase, MonitorPhase::Booting);
            let problem = status.problem.expect("told");
            assert!(problem.what.contains("4 minutes") && problem.why.starts_with(why));
            // It comes after all.
            send(outside, &[Marker::SshReady { uptime_ms: 400_000 }]).await;
            let status = outside.until("ready", |s| s.phase == MonitorPhase::Ready).await;
            assert_eq!(status.problem, None);
            outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stands_still_is_not_late() {
    let backend = FakeBackend::new(script());
    live(&backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        crate::monitor::order::stand_still(&outside.orders, true, None).await.expect("done");
        tokio::time::sleep(Duration::from_secs(250)).await;
        assert_eq!(outside.status.borrow().problem, None);
        crate::monitor::order::stand_still(&outside.orders, false, None).await.expect("done");
        assert_eq!(outside.status.borrow().problem, None);
        outside.until("late after all", |s| s.problem.is_some()).await;
        outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_run_from_its_start_is_shown_when_there_is_nothing_else() {
    let backend = FakeBackend::new(script());
    let note = Problem::new("it runs without modules", "there are none", "bootstrap");
    live_on(Ports(1000, 0, Some(note.clone())), &backend, async |outside| {
        outside.until("booting", |s| s.phase == MonitorPhase::Booting).await;
        assert_eq!(outside.status.borrow().problem, Some(note.clone()));
        send(outside, &[Marker::Up { uptime_ms: 1 }]).await;
        outside.until("another", |s| s.problem.is_some() && s.problem != Some(note.clone())).await;
        send(outside, &[Marker::SshReady { uptime_ms: 2 }]).await;
        outside.until("the first again", |s| s.problem == Some(note.clone())).await;
        outside.orders.send(Order::Stop(StopLadder::kill())).await.expect("taken");
    })
    .await;
}
