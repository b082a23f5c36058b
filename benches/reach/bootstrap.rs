//! A runtime directory made from Debian's packages: banger against the same commands typed by
//! hand, in turns.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    place::BANGER,
    table::{Row, median, seconds},
};

/// How often each is done, unless `BENCH_BOOTSTRAP` says otherwise.
const TURNS: usize = 2;

/// How often the bootstrap that has nothing to do is done.
const AGAIN: usize = 5;

/// The most it may take, whatever the commands take.
const MOST: Duration = Duration::from_secs(120);

/// The most it may take with nothing to do.
const MOST_AGAIN: Duration = Duration::from_secs(1);

/// The commands that banger and its scripts run, in their order, and no more: the files of `tiny`
/// are put together, and the kernel is uncompressed, by banger alone. `$1` is an empty
/// directory, `$2` the checkout.
const BY_HAND: &str = r#"
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
checkout=$2
cd "$1"
apt="apt-get -o APT::Sandbox::User=root"
ext4="-q -F -t ext4 -b 4096 -m 0 -L root"
extended="root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1"
manifest() {
    sed 's/#.*//' "$checkout/assets/packages/$1.txt" | tr -s '[:space:]' "$2" | sed "s/^$2//; s/$2\$//"
}

# The kernel, and the file system of its modules.
apt-cache show --no-all-versions linux-image-cloud-amd64 >meta
name=$(sed -n 's/^Depends: \([^ ]*\) (= [^)]*).*/\1/p' meta | head -n 1)
version=$(sed -n 's/^Depends: [^ ]* (= \([^)]*\)).*/\1/p' meta | head -n 1)
apt-cache show --no-all-versions "$name=$version" >kernel
mkdir kernel.d
(cd kernel.d && $apt download "$name=$version")
dpkg-deb --extract kernel.d/*.deb tree
depmod --basedir "$PWD/tree" "${name#linux-image-}"
(
    cd "tree/lib/modules/${name#linux-image-}"
    find . -mindepth 1 -type d -printf 'mkdir "%P"\n' | sort >"$1/list"
    find . -type f -printf 'write "%P" "%P"\n' | sort >>"$1/list"
    mke2fs -q -F -t ext4 -m 0 -b 4096 -I 256 -N 4096 \
        -O none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file \
        "$1/modules.img" "$(($(du -sm . | cut -f 1) + 8))M"
    debugfs -w -f "$1/list" "$1/modules.img" >"$1/said"
)

# The image "tiny".
mkdir tiny.d tiny
# shellcheck disable=SC2046
(cd tiny.d && $apt -qq download $(manifest tiny ' '))
for deb in tiny.d/*.deb; do
    dpkg-deb -x "$deb" tiny
done
truncate -s 256M tiny.img
mke2fs $ext4 -E "$extended" -d tiny tiny.img

# The image "debian".
apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' \
    'Created-By: Packages' |
    sed -n 's,^Debian|bookworm[a-z-]*|\(http[^|]*\)|\(bookworm[a-z-]*\)|\([^|]*\)$,deb \1 \2 \3,p' |
    grep -v -e bookworm-backports -e bookworm-proposed | sort -u >sources || :
set --
if grep -q ' bookworm main$' sources; then
    set -- sources
fi
mmdebstrap --quiet --mode=root --variant=minbase --include="$(manifest debian ,)" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="$(cat "$checkout/scripts/image/debian-customize.sh")" \
    bookworm debian.tar "$@"
mkdir debian
tar -C debian --numeric-owner --exclude './dev/*' -xpf debian.tar
truncate -s 2048M debian.img
mke2fs $ext4 -E "$extended" -d debian debian.img
"#;

/// Measures it.
pub fn measure() -> Outcome<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mmdebstrap has root's mode in the commands by hand: run it as root".into());
    }
    let turns = env::var("BENCH_BOOTSTRAP").ok().and_then(|n| n.parse().ok()).unwrap_or(TURNS);
    let work = Work::new()?;
    let (mut floor, mut banger) = (Vec::new(), Vec::new());
    // Once unmeasured: afterwards both find the programs in memory, and the packages with
    // whoever keeps them on the way here. Then each goes first once.
    let mut again = [Duration::ZERO; AGAIN];
    let (first, said) = work.banger("first", &mut again)?;
    for turn in 0..turns {
        for hand in [turn % 2 == 0, turn % 2 != 0] {
            if hand {
                floor.push(work.by_hand()?);
            } else {
                banger.push(work.banger("made", &mut [])?.0);
            }
        }
    }
    let (floor, banger, again) = (mean(&floor), mean(&banger), median(&again));
    let mut rows = vec![
        Row::ratio("bootstrap, against its commands", floor, banger, 1.15),
        Row::limit(
            "bootstrap",
            "",
            seconds(banger),
            format!("at most {} s", MOST.as_secs()),
            banger <= MOST,
        ),
        Row::note("the first, with nothing in memory", "", seconds(first)),
        Row::limit(
            "bootstrap with nothing to do",
            "",
            seconds(again),
            format!("at most {} s", MOST_AGAIN.as_secs()),
            again <= MOST_AGAIN,
        ),
    ];
    if said.contains("left out  firecracker") {
        rows.push(Row::note("Firecracker's host was asked each time, in vain", "", String::new()));
    }
    Ok(rows)
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len().max(1)).unwrap_or(1)
}

/// A directory on the checkout's file system, removed at the end.
struct Work(PathBuf);

impl Work {
    fn new() -> Outcome<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.join(format!("bootstrap-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// An empty directory, with nothing left to be written of what was before.
    fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.0.join(name);
        fs::create_dir(&dir)?;
        nix::unistd::sync();
        Ok(dir)
    }

    fn by_hand(&self) -> Outcome<Duration> {
        let dir = self.fresh("by-hand")?;
        let mut sh = Command::new("sh");
        sh.args(["-c", BY_HAND, "sh"]).arg(&dir).arg(env!("CARGO_MANIFEST_DIR"));
        let (took, _) = timed(&mut sh)?;
        fs::remove_dir_all(dir)?;
        Ok(took)
    }

    /// Makes a runtime directory, then those of `again` in the same place; how long the first
    /// took, and what the last said.
    fn banger(&self, name: &str, again: &mut [Duration]) -> Outcome<(Duration, String)> {
        let dir = self.fresh(name)?;
        let make = || {
            let mut banger = Command::new(BANGER);
            banger.args(["runtime", "bootstrap", "--assemble", "--dir"]).arg(&dir);
            timed(&mut banger)
        };
        let (took, mut said) = make()?;
        for time in again {
            (*time, said) = make()?;
        }
        fs::remove_dir_all(&dir)?;
        Ok((took, said))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}

/// Runs a command: how long it took, and what it said.
fn timed(command: &mut Command) -> Outcome<(Duration, String)> {
    // mke2fs and others lie in directories that a normal user's PATH does not have.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    command.env("PATH", path).stdin(Stdio::null());
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok((took, said));
    }
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!("{:?}: {}: {}", command.get_program(), output.status, last.join(" < ")).into())
}
