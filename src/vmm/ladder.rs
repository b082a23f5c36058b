//! Climbing a stop ladder: each rung in its own time, the next when it did not help.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{BoxFuture, Machine, MachineEvent, MachineExit, VmmError};
use crate::domain::{Method, StopLadder};

/// How long the end of a VMM may take to reach us after a rung failed, usually because the VMM
/// was already on its way out.
const AFTERMATH: Duration = Duration::from_millis(100);

/// A VMM that is still there after the last rung: stuck in the kernel, on a dead disk for
/// instance. Whoever has it must not start another one on the same disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the VMM (process {pid}) is still there after {}", last.label())]
pub struct StillThere {
    /// The VMM.
    pub pid: u32,
    /// The last rung.
    pub last: Method,
}

/// Stops a machine. `on_rung` hears of each rung before it is tried. Returns the rung that did
/// it and how the machine ended. Always ends: in the sum of the ladder's timeouts at most, plus
/// 100 ms for each rung that fails outright.
///
/// A guest that powers off by itself is credited to the power button if that was pressed, even
/// if a later rung was under way.
///
/// # Errors
/// If even the last rung did not help.
pub async fn climb(
    machine: &mut dyn Machine,
    ladder: &StopLadder,
    mut on_rung: impl FnMut(Method),
) -> Result<(Method, MachineExit), StillThere> {
    let mut pressed = false;
    let mut last = Method::Kill;
    for rung in ladder.rungs() {
        last = rung.method;
        on_rung(rung.method);
        let deadline = Instant::now() + Duration::from_millis(rung.timeout_ms);
        let told = timeout_at(deadline, tell(machine, rung.method)).await;
        let wait_until = match told {
            // Not told at all: no use in waiting for the guest.
            Ok(Err(_)) => deadline.min(Instant::now() + AFTERMATH),
            Ok(Ok(())) | Err(_) => deadline,
        };
        pressed |= rung.method == Method::PowerButton && matches!(told, Ok(Ok(())));
        if let Ok(MachineEvent::Exited(exit)) = timeout_at(wait_until, machine.next_event()).await {
            let by = match exit {
                MachineExit::GuestPoweroff if pressed => Method::PowerButton,
                _ => rung.method,
            };
            return Ok((by, exit));
        }
    }
    // An end at the very moment of the last timeout.
    match timeout(Duration::ZERO, machine.next_event()).await {
        Ok(MachineEvent::Exited(exit)) => Ok((last, exit)),
        Err(_) => Err(StillThere { pid: machine.pid(), last }),
    }
}

fn tell(machine: &mut dyn Machine, method: Method) -> BoxFuture<'_, Result<(), VmmError>> {
    match method {
        Method::PowerButton => machine.power_button(),
        Method::VmmQuit => machine.quit(),
        Method::Terminate => Box::pin(async { machine.signal(false) }),
        Method::Kill => Box::pin(async { machine.signal(true) }),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    /// What a machine does when told.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Manner {
        Obeys,
        ObeysAfter(Duration),
        Ignores,
        Refuses,
        /// The call itself never comes back.
        Hangs,
    }

    struct Stubborn {
        manners: [Manner; 4],
        ends_at: Option<(Instant, MachineExit)>,
    }

    impl Stubborn {
        fn new(manners: [Manner; 4]) -> Self {
            Self { manners, ends_at: None }
        }

        fn told(&mut self, which: usize, exit: MachineExit) -> Result<Manner, VmmError> {
            let manner = self.manners[which];
            let after = match manner {
                Manner::Obeys => Duration::ZERO,
                Manner::ObeysAfter(after) => after,
                Manner::Refuses => return Err(VmmError::Unsupported),
                Manner::Ignores | Manner::Hangs => return Ok(manner),
            };
            let at = Instant::now() + after;
            if self.ends_at.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                self.ends_at = Some((at, exit));
            }
            Ok(manner)
        }

        fn tell(&mut self, which: usize, exit: MachineExit) -> BoxFuture<'_, Result<(), VmmError>> {
            Box::pin(async move {
                match self.told(which, exit)? {
                    Manner::Hangs => pending().await,
                    _ => Ok(()),
                }
            })
        }
    }

    impl Machine for Stubborn {
        fn pid(&self) -> u32 {
            7
        }

        fn next_event(&mut self) -> BoxFuture<'_, MachineEvent> {
            Box::pin(async {
                match self.ends_at.clone() {
                    Some((at, exit)) => {
                        tokio::time::sleep_until(at).await;
                        MachineEvent::Exited(exit)
                    }
                    None => pending().await,
                }
            })
        }

        fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
            self.tell(0, MachineExit::GuestPoweroff)
        }

        fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
            Box::pin(async { Err(VmmError::Unsupported) })
        }

        fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
            Box::pin(async { Err(VmmError::Unsupported) })
        }

        fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
            self.tell(1, MachineExit::Asked)
        }

        fn signal(&mut self, kill: bool) -> Result<(), VmmError> {
            self.told(if kill { 3 } else { 2 }, MachineExit::Asked).map(|_| ())
        }
    }

    async fn stop(
        manners: [Manner; 4],
    ) -> (Result<(Method, MachineExit), StillThere>, Vec<Method>, Duration) {
        let begun = Instant::now();
        let mut tried = Vec::new();
        let mut machine = Stubborn::new(manners);
        let ended = climb(&mut machine, &StopLadder::polite(10_000), |rung| tried.push(rung)).await;
        (ended, tried, begun.elapsed())
    }

    use Manner::{Hangs, Ignores, Obeys, ObeysAfter, Refuses};
    use Method::{Kill, PowerButton, Terminate, VmmQuit};

    #[tokio::test(start_paused = true)]
    async fn an_obedient_guest_is_stopped_by_the_first_rung() {
        let (ended, tried, took) = stop([Obeys; 4]).await;
        assert_eq!(ended, Ok((PowerButton, MachineExit::GuestPoweroff)));
        assert_eq!(tried, [PowerButton]);
        assert!(took < Duration::from_millis(10), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_rung_has_its_own_time() {
        let (ended, tried, took) = stop([Ignores, Hangs, Ignores, Obeys]).await;
        assert_eq!(ended, Ok((Kill, MachineExit::Asked)));
        assert_eq!(tried, [PowerButton, VmmQuit, Terminate, Kill]);
        assert_eq!(took.as_secs(), 10 + 3 + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rung_that_fails_costs_next_to_nothing() {
        let (ended, tried, took) = stop([Refuses, Refuses, Obeys, Obeys]).await;
        assert_eq!(ended, Ok((Terminate, MachineExit::Asked)));
        assert_eq!(tried, [PowerButton, VmmQuit, Terminate]);
        assert!(took <= 3 * AFTERMATH, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_power_off_is_still_the_power_buttons() {
        let late = ObeysAfter(Duration::from_secs(11));
        let (ended, tried, _) = stop([late, Ignores, Ignores, Obeys]).await;
        assert_eq!(ended, Ok((PowerButton, MachineExit::GuestPoweroff)));
        assert_eq!(tried, [PowerButton, VmmQuit]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vmm_that_not_even_the_kernel_can_end_is_said_to_be_still_there() {
        let (ended, tried, _) = stop([Ignores; 4]).await;
        assert_eq!(ended, Err(StillThere { pid: 7, last: Kill }));
        assert_eq!(tried.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_kill_ladder_asks_nobody() {
        let mut machine = Stubborn::new([Obeys; 4]);
        let ended = climb(&mut machine, &StopLadder::kill(), |_| {}).await;
        assert_eq!(ended, Ok((Kill, MachineExit::Asked)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_stop_always_ends(kinds in any::<[u8; 4]>(), afters in any::<[u16; 4]>()) {
            let manners = std::array::from_fn(|i| match kinds[i] % 5 {
                0 => Obeys,
                1 => ObeysAfter(Duration::from_millis(afters[i].into())),
                2 => Ignores,
                3 => Refuses,
                _ => Hangs,
            });
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("runtime");
            let (ended, tried, took) = runtime.block_on(stop(manners));
            let rungs = StopLadder::polite(10_000);
            let all: u64 = rungs.rungs().iter().map(|rung| rung.timeout_ms).sum();
            assert!(took <= Duration::from_millis(all + 50), "{took:?}");
            let order: Vec<_> = rungs.rungs().iter().map(|rung| rung.method).collect();
            assert_eq!(tried, order[..tried.len()]);
            if manners[3] == Obeys {
                assert!(ended.is_ok());
            }
            if let Ok((by, _)) = ended {
                assert!(tried.contains(&by));
            }
        }
    }
}
