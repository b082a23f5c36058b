//! Does what may be done, and remembers whose it is.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    claims::{Claim, Claims},
    files::{self, FileFacts},
    guard::{self, Refusal, There, View},
};
use crate::{
    domain::{Problem, Subnet, Tag, tap_name},
    host::ops::{Done, Op, Operate},
};

/// Tags a user may have that something is there of: one is made with each state directory.
const TAGS_MAX: usize = 8;

/// Makes who does the operations on what bears a tag, for a user.
pub(super) type Operators = Box<dyn Fn(&Tag, u32) -> Box<dyn Operate> + Send + Sync>;

/// What the helper has to know of the host.
pub(super) trait Surroundings: Send + Sync {
    /// What shares addresses with a subnet, but for the tag's own bridge.
    ///
    /// # Errors
    /// If the host cannot be looked at.
    fn collision(&self, tag: &Tag, subnet: Subnet) -> Result<Option<String>, Problem>;

    /// Whether there is a network interface of this name.
    ///
    /// # Errors
    /// If the host cannot be looked at.
    fn has_interface(&self, name: &str) -> io::Result<bool>;
}

/// Why nothing came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It was not tried.
    Refused(Problem),
    /// It was tried.
    Failed(Problem),
}

impl Told {
    fn io(what: &str, error: &io::Error) -> Self {
        let hint = "`journalctl -u banger-helper` tells more; `sudo banger helper install` again";
        Self::Failed(Problem::new(format!("the root helper {what}"), error.to_string(), hint))
    }
}

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Problem::new("the root helper refuses", refusal.why, refusal.hint))
    }
}

/// What is there of a tag, once it was looked at.
type Known = Arc<Mutex<Option<There>>>;

/// See the module.
pub(super) struct Keeper {
    claims: Claims,
    operators: Operators,
    surroundings: Box<dyn Surroundings>,
    /// Held for what concerns more than one tag: claims, networks, forwarding. Taken after the
    /// lock of the tag; never while a disk or a device is waited for.
    shared: Mutex<()>,
    /// One at a time does something about a tag.
    tags: Mutex<HashMap<Tag, Known>>,
}

impl Keeper {
    pub fn new(claims: Claims, operators: Operators, surroundings: Box<dyn Surroundings>) -> Self {
        let (shared, tags) = (Mutex::default(), Mutex::default());
        Self { claims, operators, surroundings, shared, tags }
    }

    /// Does an operation for a user, if that may be.
    pub fn run(&self, uid: u32, tag: &Tag, op: &Op, files: &[OwnedFd]) -> Result<Done, Told> {
        if files.len() != guard::files(op) {
            let why =
                format!("{} descriptors came, and it takes {}", files.len(), guard::files(op));
            return Err(Refusal::new(why, "this is a bug in banger").into());
        }
        // Before any lock: this may take for ever, and then it is the asker's own time.
        if let Op::Snapshot { bytes, .. } = op {
            check_files(files, *bytes, uid)?;
        }
        let known = self.known(tag);
        let result = {
            let mut there = lock(&known);
            self.run_alone(uid, tag, op, files, &mut there)
        };
        self.let_go(tag, &known);
        result
    }

    /// As [`Keeper::run`], while nobody else does anything about the tag.
    fn run_alone(
        &self,
        uid: u32,
        tag: &Tag,
        op: &Op,
        files: &[OwnedFd],
        known: &mut Option<There>,
    ) -> Result<Done, Told> {
        let shared = lock(&self.shared);
        let Some(claim) = self.admit(uid, tag, op, known)? else {
            drop(shared);
            // Only looking, at what may be nobody's.
            return self.operate(tag, uid, op, files);
        };
        let shared = concerns_others(op).then_some(shared);
        // What is known may be old: somebody may have made or removed something by hand.
        let fresh = known.is_none();
        let mut there = self.there(tag, &claim, known)?;
        let mut verdict = self.check(uid, tag, op, &claim, &there)?;
        if verdict.is_err() && !fresh {
            *known = None;
            there = self.there(tag, &claim, known)?;
            verdict = self.check(uid, tag, op, &claim, &there)?;
        }
        verdict?;
        let done = self.do_and_note(tag, op, files, claim)?;
        drop(shared);
        there.did(op);
        *known = Some(there);
        Ok(done)
    }

    /// The claim to the tag of one who may do something about it; `None` if it is nobody's, and
    /// is only to be looked at.
    fn admit(
        &self,
        uid: u32,
        tag: &Tag,
        op: &Op,
        known: &mut Option<There>,
    ) -> Result<Option<Claim>, Told> {
        let failed = |error: io::Error| Told::io("cannot tell whose the tag is", &error);
        let found = self.claims.read(tag).map_err(failed)?;
        if let Some(claim) = &found {
            if claim.uid != uid && uid != 0 {
                let why = format!("what bears the tag {tag} is another user's");
                let hint = "every state directory has a tag of its own; this one's was copied";
                return Err(Refusal::new(why, hint).into());
            }
            if self.claims.is_current(claim) {
                return Ok(found);
            }
        }
        if found.is_none() && *op == Op::Inventory {
            return Ok(None);
        }
        let owner = found.as_ref().map_or(uid, |claim| claim.uid);
        let claim = self.claims.fresh(owner);
        // The first time since the host started: what is there was not made by this helper.
        *known = None;
        let there = self.there(tag, &claim, known)?;
        if uid != 0 && (there.anything || (there.hosts && found.is_none())) {
            let why = format!("what bears the tag {tag} was not made by the helper");
            let hint = "if it was made by `sudo banger`, stop those VMs with it first";
            return Err(Refusal::new(why, hint).into());
        }
        if found.is_some() {
            self.claims.write(tag, &claim).map_err(failed)?;
        } else {
            self.make_room(owner)?;
            if !self.claims.make(tag, &claim).map_err(failed)? {
                // Under the lock nobody else can have made it.
                let error = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(failed(error));
            }
        }
        Ok(Some(claim))
    }

    /// Lets go of a user's tags that nothing is there of, if there are too many.
    fn make_room(&self, uid: u32) -> Result<(), Told> {
        let failed = |error: io::Error| Told::io("cannot tell whose the tags are", &error);
        let all = self.claims.all().map_err(failed)?;
        let own: Vec<_> = all.into_iter().filter(|(_, claim)| claim.uid == uid).collect();
        if own.len() < TAGS_MAX {
            return Ok(());
        }
        let mut left = own.len();
        for (tag, claim) in own {
            let known = self.known(&tag);
            // One that is being used just now is not let go of. Not waited for: whoever uses it
            // may be waiting for us.
            if let Ok(mut there) = known.try_lock() {
                *there = None;
                let there = self.there(&tag, &claim, &mut there)?;
                if !there.anything && !there.hosts {
                    self.claims.forget(&tag).map_err(failed)?;
                    left -= 1;
                }
            }
            self.let_go(&tag, &known);
        }
        if left < TAGS_MAX {
            return Ok(());
        }
        let why = format!("there are things of {left} bangers of yours on this host");
        let hint = "each state directory counts; stop the VMs of one that is not needed";
        Err(Refusal::new(why, hint).into())
    }

    fn check(
        &self,
        uid: u32,
        tag: &Tag,
        op: &Op,
        claim: &Claim,
        there: &There,
    ) -> Result<Result<(), Refusal>, Told> {
        let failed = |error: io::Error| Told::io("cannot look at the network", &error);
        let mut collision = None;
        let mut others = Vec::new();
        let mut tap_exists = false;
        match op {
            Op::Bridge { subnet, .. } => {
                collision = self.surroundings.collision(tag, *subnet).map_err(Told::Failed)?;
                others = self.others(tag)?.into_iter().filter_map(subnet_of).collect();
            }
            Op::Tap { vm, .. } | Op::TapGone { vm } => {
                tap_exists = self.surroundings.has_interface(&tap_name(vm)).map_err(failed)?;
            }
            _ => {}
        }
        let (others, collision) = (&others[..], collision.as_deref());
        Ok(guard::check(op, View { uid, claim, there, others, collision, tap_exists }))
    }

    /// Does it, and writes down what must be known when it is to be undone.
    fn do_and_note(
        &self,
        tag: &Tag,
        op: &Op,
        files: &[OwnedFd],
        mut claim: Claim,
    ) -> Result<Done, Told> {
        let owner = claim.uid;
        match op {
            Op::Bridge { subnet, .. } => {
                // Before it is made: if this ends here, the addresses are known to be taken.
                let before = claim.subnet.replace(*subnet);
                self.note(tag, &claim)?;
                let done = self.operate(tag, owner, op, files);
                if done.is_err() {
                    claim.subnet = before;
                    self.note(tag, &claim)?;
                }
                done
            }
            Op::BridgeGone => {
                let done = self.operate(tag, owner, op, files)?;
                claim.subnet = None;
                self.note(tag, &claim)?;
                Ok(done)
            }
            _ => self.operate(tag, owner, op, files),
        }
    }

    fn note(&self, tag: &Tag, claim: &Claim) -> Result<(), Told> {
        let failed = |error: io::Error| Told::io("cannot write down what it does", &error);
        self.claims.write(tag, claim).map_err(failed)
    }

    /// What other tags have done since the host started.
    fn others(&self, tag: &Tag) -> Result<Vec<(Tag, Claim)>, Told> {
        let failed = |error: io::Error| Told::io("cannot tell whose the tags are", &error);
        let mut all = self.claims.all().map_err(failed)?;
        all.retain(|(other, claim)| other != tag && self.claims.is_current(claim));
        Ok(all)
    }

    /// What is there that bears the tag.
    fn there(&self, tag: &Tag, claim: &Claim, known: &mut Option<There>) -> Result<There, Told> {
        if let Some(there) = known {
            return Ok(there.clone());
        }
        match self.operate(tag, claim.uid, &Op::Inventory, &[])? {
            Done::Inventory(inventory) => Ok(known.insert(inventory.into()).clone()),
            other => {
                let why = format!("looking gave {other:?}");
                Err(Told::io("cannot see what is there", &io::Error::other(why)))
            }
        }
    }

    fn operate(&self, tag: &Tag, uid: u32, op: &Op, files: &[OwnedFd]) -> Result<Done, Told> {
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        (self.operators)(tag, uid).run(op, &files).map_err(Told::Failed)
    }

    fn known(&self, tag: &Tag) -> Known {
        Arc::clone(lock(&self.tags).entry(tag.clone()).or_default())
    }

    /// Forgets about a tag that nothing was found out about: others' tags take no memory here.
    fn let_go(&self, tag: &Tag, known: &Known) {
        let mut tags = lock(&self.tags);
        let nothing = known.try_lock().is_ok_and(|there| there.is_none());
        // One is in the map, one is ours.
        if nothing && Arc::strong_count(known) == 2 {
            tags.remove(tag);
        }
    }
}

/// Whether an operation concerns more than its own tag.
const fn concerns_others(op: &Op) -> bool {
    !matches!(
        op,
        Op::Snapshot { .. }
            | Op::SnapshotGone { .. }
            | Op::SnapshotFill { .. }
            | Op::SnapshotExtend { .. }
            | Op::Resolve { .. }
            | Op::ResolveGone
            | Op::Inventory
    )
}

fn subnet_of((tag, claim): (Tag, Claim)) -> Option<(Tag, Subnet)> {
    claim.subnet.map(|subnet| (tag, subnet))
}

fn check_files(files: &[OwnedFd], bytes: u64, uid: u32) -> Result<(), Told> {
    let hint = "put the state directory on a disk of this host";
    let [base, cow] = files else {
        return Err(Refusal::new("a snapshot is made of two files", hint).into());
    };
    let refused = |why: String| Told::from(Refusal::new(why, hint));
    let base = FileFacts::of(base.as_fd()).map_err(|e| refused(format!("the base: {e}")))?;
    let cow = FileFacts::of(cow.as_fd())
        .map_err(|e| refused(format!("the file for what changes: {e}")))?;
    files::check(&base, &cow, bytes, uid).map_err(refused)
}

/// A panic elsewhere is no reason to stop: what is there is looked at anew.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
