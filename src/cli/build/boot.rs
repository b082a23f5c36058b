//! The test boot: an image is published when a VM of it has booted and all in it is well.

use super::vm::Helper;
use crate::{
    cli::{client::Client, setup::Setup},
    domain::{Problem, VmSpec, Wishes},
};

/// What is asked of the VM. Where systemd is, all its units must have come up; the first line is
/// how it is, the others are what failed.
const ASK: &str = "[ -d /run/systemd/system ] || exit 0; \
    timeout 300 systemctl is-system-running --wait; \
    systemctl --failed --no-legend --plain --no-pager; \
    for unit in $(systemctl --failed --no-legend --plain --no-pager | cut -d' ' -f1); do \
    journalctl --no-pager --quiet --lines 5 --output cat --unit $unit; done; exit 0";

/// Boots a VM of the sealed image `image` of `memory_mib`, for the image that is to be `name`.
///
/// # Errors
/// If it does not boot, its SSH does not answer, or a unit of it has failed.
pub fn test(
    client: Client,
    setup: &Setup,
    (image, name): (&str, &str),
    memory_mib: u64,
) -> Result<(), Problem> {
    let spec = VmSpec {
        name: "test".parse().map_err(|e| Problem::new("a bug", format!("{e}"), ""))?,
        image: image.to_owned(),
        vcpus: 1,
        memory_mib,
        disk_mib: None,
        restore: false,
        wishes: Wishes::default(),
        extras: Default::default(),
    };
    let what = || format!("a VM of {name} does not come up whole");
    let hint = "correct the recipe; --no-test-boot publishes it all the same";
    let vm = Helper::start(client, setup, "test", name, spec)
        .map_err(|problem| Problem::new(what(), problem.why, hint))?;
    let said = vm.run(ASK).map_err(|problem| Problem::new(what(), problem.why, hint))?;
    judge(&said).map_err(|why| Problem::new(what(), why, hint))
}

/// What systemd says of itself, judged.
fn judge(said: &str) -> Result<(), String> {
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    match lines.next() {
        None | Some("running") => Ok(()),
        Some(state) => {
            let more: Vec<&str> = lines.take(12).collect();
            let more = if more.is_empty() { "no unit failed".into() } else { more.join("\n  ") };
            Err(format!("systemd is {state}: {more}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_unit_is_named_and_none_is_well() {
        assert_eq!(judge(""), Ok(()));
        assert_eq!(judge("running\n"), Ok(()));
        let why = judge("degraded\nbad.service loaded failed failed Bad\nno such file\n");
        assert!(why.unwrap_err().contains("bad.service"));
    }
}
