//! Places where a debug build can be made to die, so that tests can show what a death there leaves.
//!
//! `BANGER_FAULT=monitor:7:FILE` means: the eighth place that a monitor passes is the last thing it
//! does, and FILE says which that was. The processes it starts inherit the variable; which of them
//! heeds it says [`arm`]. A test begins with 0 and goes on until everything goes well, so nobody has
//! to keep a list of places. `BANGER_FAULT=monitor:=A*B:FILE` means the first place whose name has A
//! and B in it.
//!
//! A place comes after each thing that changed the host, the ledger or the database: what is between
//! two such changes makes no difference to whoever clears up.

#[cfg(debug_assertions)]
pub use armed::{arm, point};

/// Nobody dies in a release build: see the debug build's.
#[cfg(not(debug_assertions))]
pub const fn arm(_kind: &str) {}

/// Nobody dies in a release build: see the debug build's.
#[cfg(not(debug_assertions))]
pub fn point(_name: impl std::fmt::Display) {}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        env,
        fmt::Display,
        fs,
        path::PathBuf,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use nix::sys::signal::{Signal, raise};

    /// Where this process is to die.
    #[derive(Debug)]
    enum Place {
        /// Places to be passed, and one more; 0: that was it.
        Left(AtomicU64),
        /// What is in its name.
        Named(String),
    }

    /// What this process is to die of.
    #[derive(Debug)]
    struct Fault {
        place: Place,
        /// Where it is said which it was.
        says: PathBuf,
    }

    static FAULT: OnceLock<Fault> = OnceLock::new();

    impl Fault {
        /// Reads `KIND:N:FILE` or `KIND:=A*B:FILE`, if it is for this kind of process.
        fn read(text: &str, kind: &str) -> Option<Self> {
            let (place, says) = text.strip_prefix(kind)?.strip_prefix(':')?.split_once(':')?;
            let place = match place.strip_prefix('=') {
                Some(part) => Place::Named(part.to_owned()),
                None => Place::Left(AtomicU64::new(place.parse::<u64>().ok()?.checked_add(1)?)),
            };
            Some(Self { place, says: says.into() })
        }

        /// Whether the place that is passed now is the one.
        fn passed(&self, name: &str) -> bool {
            let one_less = |left: u64| left.checked_sub(1);
            match &self.place {
                Place::Named(parts) => parts.split('*').all(|part| name.contains(part)),
                Place::Left(left) => {
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1)
                }
            }
        }
    }

    /// From here on this process is of that kind: it heeds `BANGER_FAULT=KIND:…`. Without debug
    /// assertions, and without the variable, nothing ever happens.
    pub fn arm(kind: &str) {
        if let Some(fault) = Fault::read(&env::var("BANGER_FAULT").unwrap_or_default(), kind) {
            FAULT.get_or_init(|| fault);
        }
    }

    /// A place. The process that is to die here writes down that it does, and is killed.
    pub fn point(name: impl Display) {
        let Some(fault) = FAULT.get() else { return };
        let name = name.to_string();
        if fault.passed(&name) {
            // If it cannot, the test that asked for it finds out.
            let _ = fs::write(&fault.says, name);
            let _ = raise(Signal::SIGKILL);
        }
    }

    #[test]
    fn it_is_the_nth_place_of_its_kind_and_no_other() {
        for not_ours in ["", "monitor", "monitor:", "monitor:2", "ui:2:/x", "monitors:2:/x"] {
            assert!(Fault::read(not_ours, "monitor").is_none(), "{not_ours}");
        }
        let fault = Fault::read("monitor:2:/a:b", "monitor").expect("one");
        assert_eq!(fault.says, PathBuf::from("/a:b"));
        let passed = [""; 5].map(|name| fault.passed(name));
        assert_eq!(passed, [false, false, true, false, false]);
        let fault = Fault::read("ui:=it*gone:/a", "ui").expect("one");
        assert_eq!(["it was noted", "it is gone"].map(|name| fault.passed(name)), [false, true]);
    }
}
