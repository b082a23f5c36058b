//! An image made from another: banger against the same commands typed by hand, in turns.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    place::{Place, runtime_dir},
    table::{Row, median},
};

/// How often each is done.
const TURNS: usize = 3;

/// The commands of who does it by hand, as root; `$1` is the base, `$2` an empty directory.
const BY_HAND: &str = "
set -e
cp --sparse=always --reflink=auto \"$1\" \"$2/root.img\"
mkdir \"$2/root\"
mount -o loop \"$2/root.img\" \"$2/root\"
cp /etc/resolv.conf \"$2/root/etc/resolv.conf\"
mount -t proc proc \"$2/root/proc\"
mount -t devtmpfs dev \"$2/root/dev\" 2>/dev/null || mount --rbind /dev \"$2/root/dev\"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot \"$2/root\" apt-get -q update
chroot \"$2/root\" apt-get -q -y --no-install-recommends install tree jq
chroot \"$2/root\" apt-get clean
rm -rf \"$2\"/root/var/lib/apt/lists/* \"$2/root/etc/resolv.conf\"
umount -R \"$2/root\"
e2fsck -f -p \"$2/root.img\"
";

/// Measures it.
pub fn measure() -> Outcome<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting needs root".into());
    }
    let base = runtime_dir().join("images/debian.img");
    let place = Place::new("customize")?;
    let recipe = place.dir("recipe")?.join("recipe.toml");
    fs::write(&recipe, "name = \"two\"\nbase = \"debian\"\npackages = \"tree\\njq\\n\"\n")?;
    let recipe = recipe.to_str().ok_or("a path in UTF-8")?;
    let (mut floor, mut banger) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let dir = place.dir(&format!("by-hand-{turn}"))?;
        floor.push(by_hand(&base, &dir)?);
        fs::remove_dir_all(dir)?;
        let begun = Instant::now();
        place.run(&["images", "build", recipe, "--yes", "--replace", "--no-test-boot"])?;
        banger.push(begun.elapsed());
    }
    let what = "debian with two packages";
    Ok(vec![Row::ratio(what, median(&floor), median(&banger), 1.2)])
}

fn by_hand(base: &Path, dir: &Path) -> Outcome<Duration> {
    let begun = Instant::now();
    // What it mounts is gone with it, whatever happens.
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", BY_HAND, "sh"]);
    let run = unshare.args([base, dir]).stdin(Stdio::null()).output()?;
    if run.status.success() {
        return Ok(begun.elapsed());
    }
    Err(format!("by hand: {}", String::from_utf8_lossy(&run.stderr).trim()).into())
}
