use tokio::sync::mpsc;

use super::*;
use crate::{
    cli::testing::{fleet, vm},
    domain::{ExitReason, ExitRecord, SshEndpoint, UnixMs, VmId},
    session::{Session, Size},
    supervisor::{Command, ConsoleKind, ImageDesk},
};

struct NoSessions;

impl OpenSession for NoSessions {
    fn open(&self, _: &VmId, _: ConsoleKind, _: Size) -> Result<Session, Problem> {
        Err(Problem::new("no sessions", "in tests", ""))
    }

    fn run(&self, _: &[std::ffi::OsString], _: Size) -> Result<Session, Problem> {
        Err(Problem::new("no sessions", "in tests", ""))
    }
}

struct NoDesk;

impl ImageDesk for NoDesk {
    fn draft(&self) -> Result<Option<String>, Problem> {
        Ok(None)
    }

    fn keep_draft(&self, _: Option<&str>) -> Result<(), Problem> {
        Ok(())
    }

    fn save_recipe(&self, _: &crate::domain::Recipe) -> Result<std::path::PathBuf, Problem> {
        Err(Problem::new("no desk", "in tests", ""))
    }

    fn facts(&self, _: &str) -> Result<crate::domain::ImageFacts, Problem> {
        Err(Problem::new("no desk", "in tests", ""))
    }

    fn preview(
        &self,
        _: &crate::domain::Recipe,
        _: &std::sync::atomic::AtomicBool,
    ) -> Result<crate::domain::BuildPreview, Problem> {
        Err(Problem::new("no desk", "in tests", ""))
    }

    fn built(&self, _: &str, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// The supervisor's end.
struct Fake {
    commands: mpsc::Receiver<Command>,
    fleet: watch::Sender<Arc<Fleet>>,
}

impl Fake {
    fn job(&self, id: u64, state: JobState) {
        self.fleet.send_modify(|fleet| {
            let fleet = Arc::make_mut(fleet);
            fleet.jobs.retain(|job| job.id != JobId(id));
            fleet.jobs.push(JobView {
                id: JobId(id),
                title: format!("job {id}"),
                vm: None,
                state,
                steps: Vec::new(),
                log: Vec::new(),
                started: UnixMs(0),
                ended: None,
                cancellable: false,
            });
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut VmView)) {
        self.fleet.send_modify(|fleet| {
            let fleet = Arc::make_mut(fleet);
            let vm = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == name).unwrap();
            change(Arc::make_mut(vm));
        });
    }

    fn phase(&self, name: &str, phase: Phase, exit: Option<ExitReason>) {
        self.change(name, |vm| {
            vm.phase = phase;
            let ssh = SshEndpoint { host: "127.0.0.1".into(), port: 40022 };
            vm.ssh = Some(ssh).filter(|_| phase.is_up());
            vm.last_exit = exit.map(|reason| ExitRecord { at: UnixMs(1), reason });
        });
    }

    async fn answer(&mut self, admission: Admission) -> CommandBody {
        let command = self.commands.recv().await.unwrap();
        command.reply.send(admission).unwrap();
        command.body
    }
}

/// A client whose supervisor is `play`, in a thread of its own.
fn client<F>(picture: Fleet, play: impl FnOnce(Fake) -> F + Send + 'static) -> Client
where
    F: Future<Output = ()>,
{
    let (commands, inbox) = mpsc::channel(2);
    let (fleet, watcher) = watch::channel(Arc::new(picture));
    let (_, notices) = mpsc::channel(1);
    let fake = Fake { commands: inbox, fleet };
    let thread = std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(fake));
    });
    let sessions = Arc::new(NoSessions);
    let images = Arc::new(NoDesk);
    let handle = SupervisorHandle { commands, fleet: watcher, notices, sessions, images };
    Client::new(handle, move || thread.join().unwrap()).unwrap()
}

fn task(name: &str, wait: Option<u64>) -> Task {
    Task {
        name: name.into(),
        body: CommandBody::Start(vm(name).id),
        done: "started",
        until: Until::Over,
        wait: wait.map(|seconds| within(Duration::from_secs(seconds))),
    }
}

fn within(within: Duration) -> Wait {
    Wait {
        within,
        probe: Arc::new(|vm, _| {
            assert_eq!(vm.phase, Phase::Running, "probed too early");
            Ok(())
        }),
    }
}

fn outcomes(client: &mut Client, tasks: Vec<Task>) -> Vec<(String, Result<String, Problem>)> {
    let mut told = Vec::new();
    let result: Result<(), ()> = client.all(tasks, |name, result| {
        told.push((name.to_owned(), result));
        Ok(())
    });
    result.unwrap();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

#[test]
fn what_can_be_done_is_done_and_each_is_told() {
    let names = ["a", "b", "c", "d"];
    let mut client = client(fleet(names.map(vm)), |mut fake| async move {
        fake.answer(Admission::Queued(JobId(1))).await;
        fake.answer(Admission::Ignored("is running already".into())).await;
        let denied = Denied(Problem::new("cannot start c", "no room", ""));
        fake.answer(Admission::Denied(denied)).await;
        fake.answer(Admission::Queued(JobId(4))).await;
        fake.job(4, JobState::Failed { problem: Problem::new("cannot start d", "broken", "") });
        fake.job(1, JobState::Running);
        fake.job(1, JobState::Done);
        // The pictures stay readable until the client has seen them.
        fake.fleet.closed().await;
    });
    let told = outcomes(&mut client, names.map(|name| task(name, None)).into());
    let text = |n: usize| told[n].1.as_ref().map_err(|p| p.why.as_str()).map(String::as_str);
    assert_eq!(text(0), Ok("started"));
    assert_eq!(text(1), Ok("is running already"));
    assert_eq!(text(2), Err("no room"));
    assert_eq!(text(3), Err("broken"));
    release(client);
}

/// Drops the receivers before the fake's thread is joined.
fn release(mut client: Client) {
    let finish = client.finish.take().unwrap();
    drop(client);
    finish();
}

#[test]
fn a_start_is_done_when_the_vmm_runs_unless_more_is_wanted() {
    let mut client = client(fleet([vm("web")]), |mut fake| async move {
        fake.answer(Admission::Queued(JobId(1))).await;
        fake.job(1, JobState::Running);
        let step = |name: &str, state| crate::domain::StepView {
            name: name.to_owned(),
            state,
            detail: String::new(),
            progress: None,
        };
        fake.fleet.send_modify(|fleet| {
            let job = &mut Arc::make_mut(fleet).jobs[0];
            job.steps = vec![step("vmm", StepState::Done), step("kernel", StepState::Running)];
        });
        // It is never over: who waits for more than the launch waits for ever.
        fake.fleet.closed().await;
    });
    let task = Task { until: Until::Launched, ..task("web", None) };
    assert_eq!(outcomes(&mut client, vec![task])[0].1.as_deref(), Ok("started"));
    release(client);
}

/// What is told of the start of `web`, which boots, when it is waited for until SSH answers and
/// this happens meanwhile, and nothing after it.
fn waited(
    within: Wait,
    meanwhile: impl AsyncFnOnce(&mut Fake) + Send + 'static,
) -> Result<String, Problem> {
    let mut client = client(fleet([vm("web")]), |mut fake| async move {
        fake.phase("web", Phase::Booting, None);
        meanwhile(&mut fake).await;
        fake.fleet.closed().await;
    });
    client.wait(|fleet| fleet.vms[0].phase == Phase::Booting).unwrap();
    let task = Task { wait: Some(within), ..task("web", None) };
    let told = outcomes(&mut client, vec![task]).remove(0).1;
    release(client);
    told
}

const LONG: Duration = Duration::from_secs(60);

fn runs_already() -> Admission {
    Admission::Ignored("is running already".into())
}

#[test]
fn waiting_ends_when_the_guest_is_ready_and_not_before() {
    let told = waited(within(LONG), async |fake| {
        fake.answer(Admission::Queued(JobId(1))).await;
        fake.job(1, JobState::Done);
        tokio::task::yield_now().await;
        fake.phase("web", Phase::Running, None);
    });
    assert_eq!(told.as_deref(), Ok("started; SSH answers"));
}

#[test]
fn waiting_ends_when_the_guest_cannot_become_ready() {
    let told = waited(within(LONG), async |fake| {
        fake.answer(runs_already()).await;
        fake.phase("web", Phase::Crashed, Some(ExitReason::GuestPanic));
    });
    let problem = told.unwrap_err();
    assert!(problem.hint.contains("banger logs web"), "{problem}");
}

#[test]
fn waiting_ends_when_no_ssh_server_answers() {
    let told = waited(within(LONG), async |fake| {
        fake.answer(runs_already()).await;
        fake.change("web", |vm| {
            vm.phase = Phase::Running;
            vm.ssh = None;
            let hint = "run `banger console web`";
            vm.problem = Some(Problem::new("no SSH server answers", "its system is up", hint));
        });
    });
    let problem = told.unwrap_err();
    assert_eq!(problem.what, "web runs, and SSH does not reach it");
    assert!(problem.why.contains("no SSH server answers"), "{problem}");
    assert!(problem.hint.contains("banger console web"), "{problem}");
}

#[test]
fn waiting_goes_on_when_the_supervisor_has_given_up_and_the_guest_still_boots() {
    let told = waited(within(LONG), async |fake| {
        fake.answer(Admission::Queued(JobId(1))).await;
        let problem = Problem::new("web was not ready within 300 s", "no word", "look");
        fake.job(1, JobState::Failed { problem });
        tokio::task::yield_now().await;
        fake.phase("web", Phase::Running, None);
    });
    assert_eq!(told.as_deref(), Ok("started; SSH answers"));
}

#[test]
fn waiting_that_ends_too_early_says_what_is_known() {
    let told = waited(within(Duration::from_millis(200)), async |fake| {
        fake.answer(runs_already()).await;
        fake.change("web", |vm| {
            vm.problem = Some(Problem::new("it boots for ever", "its init hangs", "look"));
        });
    });
    assert_eq!(told.unwrap_err().why, "its init hangs");
}

#[test]
fn waiting_has_an_end() {
    let told = waited(within(Duration::from_millis(20)), async |fake| {
        fake.answer(runs_already()).await;
    });
    assert!(told.unwrap_err().hint.contains("--wait=SECONDS"));
}

#[test]
fn a_supervisor_that_ends_is_an_error_and_no_hang() {
    let mut client = client(fleet([vm("web")]), |mut fake| async move {
        fake.answer(Admission::Queued(JobId(1))).await;
    });
    let told = outcomes(&mut client, vec![task("web", None)]);
    assert!(told[0].1.as_ref().unwrap_err().why.contains("supervisor ended"));
    assert!(client.wait(|_| false).is_err());
}

#[test]
fn what_a_dead_monitor_left_is_cleared_up_before_the_list_is_taken() {
    let mut picture = fleet([vm("web")]);
    Arc::make_mut(&mut picture.vms[0]).phase = Phase::Stopping;
    Arc::make_mut(&mut picture.vms[0]).vmm = None;
    let mut client = client(picture, |fake| async move {
        fake.phase("web", Phase::Crashed, Some(ExitReason::MonitorLost));
    });
    assert_eq!(client.loaded().unwrap().vms[0].phase, Phase::Crashed);
}
