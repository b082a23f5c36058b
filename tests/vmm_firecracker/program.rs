//! A program that is like Firecracker as far as its API goes: the same arguments, the same
//! sockets left behind, answers that were recorded from the real one. It is this test's own
//! executable, started again by a script in the place of `firecracker`.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener as Bound},
    path::{Path, PathBuf},
    process::exit,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixListener;

use crate::api::{Api, refusal};

/// How it differs from one that works: words in its environment.
const MANNER: &str = "FAKE_FIRECRACKER_MANNER";
/// Its own arguments.
const ARGUMENTS: &str = "FAKE_FIRECRACKER_ARGUMENTS";
/// Where it writes down what was asked of it.
const NOTES: &str = "FAKE_FIRECRACKER_NOTES";
/// The directory that it takes for `/`, as behind a jailer.
const ROOT: &str = "FAKE_FIRECRACKER_ROOT";

/// Puts a `firecracker` into a directory that behaves in this manner.
pub fn install(dir: &Path, manner: &str) -> PathBuf {
    let path = dir.join("firecracker");
    let this = env::current_exe().expect("this program");
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = --version ]; then echo 'Firecracker v1.16.1'; exit; fi\n\
         export {MANNER}='{manner}' {NOTES}='{}' {ARGUMENTS}=\"$*\"\n\
         exec '{}' --exact program::the_program_itself --ignored --nocapture --test-threads 1\n",
        dir.join("notes").display(),
        this.display(),
    );
    write_program(&path, &script);
    path
}

/// Puts a `jailer` beside it, which makes the directory and does not enter it.
pub fn install_jailer(dir: &Path, version: &str) -> PathBuf {
    let path = dir.join("jailer");
    let script = format!(
        r#"#!/bin/sh
if [ "$1" = --version ]; then echo 'Jailer v{version}'; exit; fi
echo "$*" > '{notes}'
while [ "$1" != -- ]; do
    case "$1" in
        --id) id=$2 ;;
        --exec-file) exec=$2 ;;
        --chroot-base-dir) base=$2 ;;
    esac
    shift 2
done
shift
export {ROOT}="$base/${{exec##*/}}/$id/root"
exec "$exec" --id "$id" "$@"
"#,
        notes = dir.join("jailer.notes").display(),
    );
    write_program(&path, &script);
    path
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).expect("script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
}

/// What was asked of the program in a directory, in order: `PUT /vsock {…}`; a line that begins
/// with `!` is a request that no Firecracker would have taken.
pub fn notes(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("notes")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
#[ignore = "not a test but the program that the tests start"]
fn the_program_itself() {
    let Ok(manner) = env::var(MANNER) else { return };
    let arguments = env::var(ARGUMENTS).expect("arguments");
    let argument = |name: &str| {
        let mut words = arguments.split(' ').skip_while(|word| *word != name).skip(1);
        words.next().map(inside)
    };
    let socket = argument("--api-sock").expect("a socket");
    let log = argument("--log-path").expect("a log");
    let manner = Manner(manner.split(' ').map(ToOwned::to_owned).collect());
    let mut log = OpenOptions::new().write(true).open(log).expect("the log's pipe");
    writeln!(log, "Running Firecracker, or nearly so").expect("log");
    if manner.has("ends-early") {
        eprintln!("Error: RunWithApi(FailedToBindSocket(\"x\"))");
        exit(1);
    }
    let program = Arc::new(Program {
        manner,
        api: Api::load(),
        notes: PathBuf::from(env::var_os(NOTES).expect("notes")),
        log: Mutex::new(log),
        started: Mutex::new(false),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(async {
        let listener = UnixListener::from_std(bind(&socket)).expect("listener");
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let program = Arc::clone(&program);
            let service = service_fn(move |request| Arc::clone(&program).answer(request));
            let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async { server.await.ok() });
        }
    });
}

/// Ends with this code, but only after what is asked just now was answered: so it is when a guest
/// ends it.
fn end_soon(code: i32) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        exit(code);
    });
}

/// A path as the program sees it, on the machine.
fn inside(path: &str) -> PathBuf {
    match env::var_os(ROOT) {
        Some(mut whole) => {
            whole.push(path);
            whole.into()
        }
        None => path.into(),
    }
}

/// Binds a socket whose path may be long, as one behind a jailer is; one that is there keeps it
/// from starting, as it does the real one.
fn bind(path: &Path) -> Bound {
    env::set_current_dir(path.parent().expect("a directory")).expect("its directory");
    let bound = Bound::bind(Path::new(path.file_name().expect("a name")));
    let bound = bound.unwrap_or_else(|error| {
        eprintln!("Error: RunWithApi(FailedToBindSocket): {error}");
        exit(1);
    });
    bound.set_nonblocking(true).expect("non-blocking");
    bound
}

struct Manner(Vec<String>);

impl Manner {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|one| one == word)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }
}

struct Program {
    manner: Manner,
    api: Api,
    notes: PathBuf,
    log: Mutex<File>,
    started: Mutex<bool>,
}

impl Program {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let method = request.method().to_string();
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        let checked = self.api.check(&method, &path, &body);
        let mark = if checked.is_ok() { "" } else { "!" };
        let why = checked.as_ref().err().cloned().unwrap_or_default();
        self.note(&format!("{mark}{method} {path} {body} {why}"));
        if self.manner.value("hangs-at").is_some_and(|words| body.contains(words)) {
            std::future::pending::<()>().await;
        }
        let (status, text) = match checked {
            Ok(()) => self.act(&method, &path, &body),
            Err(why) => (400, serde_json::json!({ "fault_message": why }).to_string()),
        };
        let response = Response::builder()
            .status(status)
            .header("Server", "Firecracker API")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(text)));
        Ok(response.expect("a response"))
    }

    fn note(&self, line: &str) {
        let file = OpenOptions::new().append(true).create(true).open(&self.notes);
        writeln!(file.expect("notes"), "{}", line.trim()).expect("noted");
    }

    /// The answer to a request that is good in itself.
    fn act(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let action = body["action_type"].as_str().or(body["state"].as_str()).unwrap_or_default();
        let what = if action.is_empty() { path } else { action };
        if self.manner.value("breaks-at") == Some(what) {
            exit(0);
        }
        let refused = match (self.manner.value("refuses"), what) {
            (Some("drive"), "/drives/disk0") => Some("backing file"),
            (Some("start"), "InstanceStart") => Some("Invalid Elf magic number"),
            _ => None,
        };
        if let Some(words) = refused {
            return (400, refusal(words).body);
        }
        let mut started = self.started.lock().expect("lock");
        let too_early = matches!(what, "Paused" | "Resumed" | "SendCtrlAltDel")
            || path == "/balloon/statistics";
        if too_early && !*started {
            return (400, refusal("not supported before starting").body);
        }
        match what {
            "/version" => {
                let version = self.manner.value("version").unwrap_or("1.16.1");
                (200, format!(r#"{{"firecracker_version":"{version}"}}"#))
            }
            "/balloon/statistics" => {
                let said = r#"{"target_pages":0,"actual_pages":256,"target_mib":0,"actual_mib":1,
                               "free_memory":1000,"total_memory":3000,"available_memory":2000}"#;
                (200, said.to_owned())
            }
            "/metrics" => {
                let path = inside(body["metrics_path"].as_str().expect("a path"));
                let file = OpenOptions::new().write(true).open(path);
                let line = r#"{"vcpu":{"failures":7},"net":{"rx_fails":0}}"#;
                writeln!(file.expect("the metrics' pipe"), "{line}").expect("metrics");
                (204, String::new())
            }
            "/vsock" => {
                let path = inside(body["uds_path"].as_str().expect("a path"));
                std::mem::forget(bind(&path));
                (204, String::new())
            }
            "InstanceStart" => {
                *started = true;
                println!("the guest runs");
                if let Some(code) = self.manner.value("ends") {
                    writeln!(self.log.lock().expect("lock"), "the last words").expect("log");
                    end_soon(code.parse().expect("a code"));
                }
                (204, String::new())
            }
            "SendCtrlAltDel" => {
                if !self.manner.has("deaf") {
                    end_soon(0);
                }
                (204, String::new())
            }
            _ if method == "GET" => (404, String::new()),
            _ => (204, String::new()),
        }
    }
}
