//! What a VMM is asked, written down for "What I ran".

use std::time::Instant;

use super::clock::Clock;
use crate::{
    domain::{HostCall, UnixMs},
    vmm::{Backend, BoxFuture, GuestMemory, Machine, MachineEvent, MachineSpec, Told, VmmError},
};

/// Takes calls, to keep them.
pub type Record<'a> = dyn Fn(HostCall) + Sync + 'a;

/// When something was begun.
#[derive(Clone, Copy)]
struct Begun(UnixMs, Instant);

impl Begun {
    fn now(clock: Clock) -> Self {
        Self(clock.now(), Instant::now())
    }

    /// As it is over now.
    fn call(self, spec: &MachineSpec, command: String, error: Option<&VmmError>) -> HostCall {
        HostCall {
            at: self.0,
            vm: Some(spec.vm.clone()),
            command,
            took_us: u64::try_from(self.1.elapsed().as_micros()).unwrap_or(u64::MAX),
            error: error.map(ToString::to_string),
        }
    }
}

/// A machine that does as it is told, and has that written down.
pub struct Noted<'a> {
    machine: Box<dyn Machine>,
    backend: &'a dyn Backend,
    spec: MachineSpec,
    clock: Clock,
    record: &'a Record<'a>,
}

impl<'a> Noted<'a> {
    /// Launches `spec` as `launch` does, and writes that down, also if it fails: the commands as
    /// one call, for they were timed, and failed, as one.
    pub async fn launch(
        backend: &'a dyn Backend,
        spec: MachineSpec,
        console: std::os::fd::OwnedFd,
        clock: Clock,
        record: &'a Record<'a>,
    ) -> Result<Self, VmmError> {
        let begun = Begun::now(clock);
        let launched = backend.launch(&spec, console).await;
        let command = backend.commands(&spec).join("\n");
        record(begun.call(&spec, command, launched.as_ref().err()));
        launched.map(|machine| Self { machine, backend, spec, clock, record })
    }

    fn note(&self, order: Told, begun: Begun, result: &Result<(), VmmError>) {
        if let Some(command) = self.backend.told(&self.spec, self.machine.pid(), order) {
            (self.record)(begun.call(&self.spec, command, result.as_ref().err()));
        }
    }

    async fn tell(&mut self, order: Told) -> Result<(), VmmError> {
        let begun = Begun::now(self.clock);
        let result = match order {
            Told::PowerButton => self.machine.power_button().await,
            Told::Pause => self.machine.pause().await,
            Told::Resume => self.machine.resume().await,
            Told::Quit => self.machine.quit().await,
            // A signal needs no waiting, and has its own way.
            Told::Terminate | Told::Kill => return self.signal(order == Told::Kill),
        };
        self.note(order, begun, &result);
        result
    }
}

impl Machine for Noted<'_> {
    fn pid(&self) -> u32 {
        self.machine.pid()
    }

    fn next_event(&mut self) -> BoxFuture<'_, MachineEvent> {
        self.machine.next_event()
    }

    fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::PowerButton))
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Pause))
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Resume))
    }

    fn memory(&mut self) -> BoxFuture<'_, Result<GuestMemory, VmmError>> {
        self.machine.memory()
    }

    fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Quit))
    }

    fn signal(&mut self, kill: bool) -> Result<(), VmmError> {
        let begun = Begun::now(self.clock);
        let result = self.machine.signal(kill);
        self.note(if kill { Told::Kill } else { Told::Terminate }, begun, &result);
        result
    }
}
