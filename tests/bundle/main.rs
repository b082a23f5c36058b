//! The runtime directory from end to end: made, used, tampered with, interrupted, checked.

// Helpers of tests, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

mod attack;
mod fixture;
mod publish;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use banger::{
    bundle::{Bundle, Event, Manifest, bootstrap, verify},
    domain::StepState::{Cached, Done, Failed, Pending, Skipped},
    image::BaseImage,
};

use fixture::{Fixture, Steps, hex, kernel, options_of, this_test};

fn states(steps: &Steps) -> Vec<banger::domain::StepState> {
    steps.iter().map(|s| s.1).collect()
}

fn verified(dir: &Path) -> Vec<String> {
    let result = verify(dir, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap();
    result.findings.iter().map(ToString::to_string).collect()
}

/// What a module holds in the file system of all modules.
fn module_of(bundle: &Bundle, module: &str) -> String {
    let mut debugfs = Command::new("/usr/sbin/debugfs");
    debugfs.args(["-R", &format!("cat /kernel/{module}")]).arg(bundle.modules().unwrap());
    String::from_utf8(debugfs.output().unwrap().stdout).unwrap()
}

#[test]
fn a_bootstrap_makes_what_vms_need_and_the_next_has_nothing_to_do() {
    let fixture = Fixture::new();
    let (report, steps) = fixture.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!(states(&steps), [Done; 6]);
    assert_eq!(steps[2].2, "linux-image-1.0-test 1.0");

    let bundle = Bundle::open(&fixture.options.dir).unwrap();
    assert_eq!(fs::read(bundle.vmlinux()).unwrap(), b"\x7fELF kernel 1.0");
    let initrd = fs::read(bundle.initrd()).unwrap();
    assert!(initrd.windows(10).any(|w| w == b"b.ko\na.ko\n"), "the order of the modules");
    assert_eq!(module_of(&bundle, "net/a.ko"), "net/a.ko 1.0");
    assert_eq!(fs::read(fixture.file("jailer")).unwrap(), b"jail");
    let names: Vec<_> = bundle.images().into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["one", "two"]);
    let image = BaseImage::open(&bundle, "one").unwrap();
    assert_eq!((image.size(), image.view().default_memory_mib), (8 << 20, 128));
    assert_eq!(image.sha256(), hex(&fs::read(image.path()).unwrap()));
    assert!(!fixture.file(".partial").exists());
    assert_eq!(verified(&fixture.options.dir), [""; 0]);

    let before = fs::read(fixture.file("bundle.json")).unwrap();
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Cached, Cached]);
    assert_eq!(fs::read(fixture.file("bundle.json")).unwrap(), before);
    assert_eq!((fixture.downloads(), fixture.host.starts().len()), (1, 1));
}

#[test]
fn a_tampered_file_is_found_with_both_sums_and_made_again_alone() {
    let fixture = Fixture::new();
    fixture.run();
    let path = fixture.file("images/two.img");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[5_000_000] ^= 1;
    fs::write(&path, &bad).unwrap();
    let expected =
        format!("images/two.img: changed, sha256 {} instead of {}", hex(&bad), hex(&good));
    assert_eq!(verified(&fixture.options.dir), [expected]);
    let (report, steps) = fixture.run();
    assert!(report.is_good());
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Cached, Done]);
    assert_eq!(verified(&fixture.options.dir), [""; 0]);

    // Touched but the same: read once, not made again.
    fs::write(fixture.file("vmlinux"), b"\x7fELF kernel 1.0").unwrap();
    let (_, steps) = fixture.run();
    assert_eq!(steps[2].1, Cached);
    fs::remove_file(fixture.file("images/one.img")).unwrap();
    assert_eq!(verified(&fixture.options.dir), ["images/one.img: missing"]);
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Done, Cached]);
}

#[test]
fn a_truncated_image_is_refused_before_a_vm_is_made_of_it() {
    let fixture = Fixture::new();
    fixture.run();
    let bundle = Bundle::open(&fixture.options.dir).unwrap();
    let file = fs::File::options().write(true).open(fixture.file("images/one.img")).unwrap();
    file.set_len(4 << 20).unwrap();
    let problem = BaseImage::open(&bundle, "one").unwrap_err();
    assert!(problem.why.contains("4194304") && problem.why.contains("8388608"), "{problem}");
    assert!(problem.hint.contains("banger runtime"), "{problem}");
    let problem = BaseImage::open(&bundle, "ona").unwrap_err();
    assert_eq!(problem.hint, "did you mean one?");
}

#[test]
fn without_firecracker_s_host_the_rest_is_made_and_it_is_said_plainly() {
    let mut fixture = Fixture::new();
    // Port 1 of the loopback: refused at once.
    fixture.firecracker().url = Some("http://127.0.0.1:1/archive.tgz".into());
    let (report, steps) = fixture.run();
    assert!(report.is_good());
    assert_eq!(states(&steps), [Done, Skipped, Done, Done, Done, Done]);
    for part in ["could not be fetched", "(7)", "QEMU"] {
        assert!(steps[1].2.contains(part), "{}", steps[1].2);
    }
    assert!(!fixture.file("firecracker").exists());
}

#[test]
fn a_wrong_sum_ends_everything_with_both_values_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    let mut body = Vec::new();
    fixture.host.serve(|b| {
        body = b.clone();
        *b.last_mut().unwrap() ^= 1;
        body.clone_from(b);
    });
    let (report, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Failed, Pending, Pending, Pending, Pending]);
    let problem = &report.problems[0];
    let pinned = fixture.firecracker().sha256.clone().unwrap();
    assert!(problem.why.contains(&pinned) && problem.why.contains(&hex(&body)), "{problem}");
    let left: Vec<_> = fs::read_dir(fixture.file(".partial/firecracker")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fixture.file("firecracker").exists());
    // A right archive with a wrong member is no better.
    let mut fixture = Fixture::new();
    fixture.firecracker().members[1].sha256 = Some("00".repeat(32));
    let (report, _) = fixture.run();
    assert!(report.problems[0].why.contains(&"00".repeat(32)), "{}", report.problems[0]);
    assert!(!fixture.file("firecracker").exists() && !fixture.file("jailer").exists());
}

#[test]
fn a_download_goes_on_where_it_was_interrupted() {
    let fixture = Fixture::new();
    let part = fixture.file(".partial/firecracker/archive.tgz.part");
    let mut all = Vec::new();
    fixture.host.serve(|body| all.clone_from(body));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &all[..50]).unwrap();
    assert_eq!(fixture.run().1[1].1, Done);
    assert_eq!(fixture.host.starts(), [50]);
    // What was there is the start of something else: all of it is fetched again.
    let fixture = Fixture::new();
    let part = fixture.file(".partial/firecracker/archive.tgz.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, [b'x'; 50]).unwrap();
    assert_eq!(fixture.run().1[1].1, Done);
    assert_eq!(fixture.host.starts(), [50, 0]);
    // All of it is there: killed between download and commit.
    let fixture = Fixture::new();
    let part = fixture.file(".partial/firecracker/archive.tgz.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &all).unwrap();
    assert_eq!(fixture.run().1[1].1, Done);
    assert_eq!(fixture.host.starts(), [0; 0]);
}

#[test]
fn one_failing_image_does_not_stop_the_other() {
    let fixture = Fixture::new();
    fixture.set("break-one", true);
    let (report, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Done, Done, Done, Failed, Done]);
    assert!(report.problems[0].why.contains("the mirror is on fire"), "{}", report.problems[0]);
    let bundle = Bundle::open(&fixture.options.dir).unwrap();
    assert_eq!(bundle.images().len(), 1);
    fixture.set("break-one", false);
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Done, Cached]);
}

#[test]
fn what_changed_is_made_again_and_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.run();
    kernel(&fixture.root, "2.0", b"\x7fELF kernel 2.0");
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Done, Done, Cached, Cached]);
    let bundle = Bundle::open(&fixture.options.dir).unwrap();
    assert_eq!(fs::read(bundle.vmlinux()).unwrap(), b"\x7fELF kernel 2.0");
    assert_eq!(module_of(&bundle, "net/a.ko"), "net/a.ko 2.0", "of the kernel that is used");
    let modules = fs::read(bundle.modules().unwrap()).unwrap();
    fs::remove_file(bundle.modules().unwrap()).unwrap();
    assert_eq!(bundle.modules(), None);
    fixture.run();
    let again = fs::read(bundle.modules().unwrap()).unwrap();
    assert!(modules == again, "the same package, the same bytes");

    let mut init = fs::read(fixture.root.join("init")).unwrap();
    init.push(0);
    fs::write(fixture.root.join("init"), init).unwrap();
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Cached, Done, Cached, Cached]);

    fixture.options.manifest.images[1].size_mib = Some(9);
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Cached, Done]);

    // apt knows nothing any more: the kernel that is there is as good as it was.
    fs::write(fixture.root.join("lists/show-linux-meta"), "").unwrap();
    let (report, steps) = fixture.run();
    assert!(report.is_good());
    assert_eq!(steps[2].1, Cached);
    assert!(steps[2].2.contains("apt does not know"), "{}", steps[2].2);
    fs::remove_file(fixture.file("vmlinux")).unwrap();
    let (report, steps) = fixture.run();
    assert_eq!(steps[2].1, Failed);
    assert!(report.problems[0].hint.contains("apt-get update"), "{}", report.problems[0]);
    assert_eq!(verified(&fixture.options.dir), ["vmlinux: missing"]);
}

#[test]
fn an_init_that_cannot_run_in_the_initrd_is_refused() {
    let mut fixture = Fixture::new();
    fixture.options.init = Some(this_test());
    let (report, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Done, Done, Failed, Done, Done]);
    assert!(report.problems[0].why.contains("linked dynamically"), "{}", report.problems[0]);
    fixture.options.init = Some("/nonexistent".into());
    let (report, _) = fixture.run();
    assert!(report.problems[0].hint.contains("--init"), "{}", report.problems[0]);
    let problem = Bundle::open(&fixture.options.dir).unwrap_err();
    assert!(problem.why.contains("initrd.cpio has not been made"), "{problem}");
}

#[test]
fn cancelled_it_ends_what_it_ran_and_the_next_goes_on() {
    let fixture = Fixture::new();
    fixture.set("block-one", true);
    let (report, steps) = fixture.run_until("blocked").unwrap();
    assert!(report.cancelled && !report.is_good());
    assert_eq!(states(&steps), [Done, Done, Done, Done, Failed, Pending]);
    fixture.set("block-one", false);
    let (report, steps) = fixture.run();
    assert!(report.is_good());
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Done, Done]);
}

#[test]
fn the_largest_image_is_built_beside_the_rest() {
    let fixture = Fixture::new();
    fixture.set("after-two", true);
    let (report, steps) = fixture.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!(states(&steps), [Done; 6]);
    assert_eq!(verified(&fixture.options.dir), [""; 0]);
}

#[test]
fn what_is_built_beside_the_rest_ends_with_it() {
    let fixture = Fixture::new();
    fixture.set("block-two", true);
    fixture.host.serve(|body| *body.last_mut().unwrap() ^= 1);
    // It would wait for ever.
    let (_, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Failed, Pending, Pending, Pending, Pending]);
    assert!(!fixture.file("images/two.img").exists());
    // What fails there is told by its step.
    fixture.host.serve(|body| *body.last_mut().unwrap() ^= 1);
    fixture.set("block-two", false);
    fixture.set("break-two", true);
    let (report, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Done, Done, Done, Done, Failed]);
    assert!(report.problems[0].why.contains("the mirror is on fire"), "{}", report.problems[0]);
}

/// Not a test of its own: what `a_killed_bootstrap_…` runs in another process.
#[test]
fn bootstrap_in_another_process() {
    let Some(root) = env::var_os("BANGER_TEST_FIXTURE") else { return };
    let mut see = |event: Event<'_>| {
        if let Event::Log(line) = event {
            println!("{line}");
        }
    };
    bootstrap(&options_of(Path::new(&root)), &mut see, &AtomicBool::new(false)).unwrap();
}

/// Kills a bootstrap that hangs in a step, and expects the next one to find these states.
fn killed_in(block: &str, expected: &[banger::domain::StepState]) {
    let fixture = Fixture::new();
    fs::write(fixture.root.join("url"), &fixture.host.url).unwrap();
    fixture.set(block, true);
    let mut child = Command::new(this_test())
        .args(["--exact", "bootstrap_in_another_process", "--nocapture"])
        .env("BANGER_TEST_FIXTURE", &fixture.root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap() == "blocked"));
    // The second is told that the first is at work, and by which process.
    let problem = fixture.run_until("").unwrap_err();
    assert!(problem.why.contains(&format!("process {}", child.id())), "{problem}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fixture.file(".partial").is_dir());
    fixture.set(block, false);
    let (report, steps) = fixture.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!(states(&steps), expected);
    assert_eq!(verified(&fixture.options.dir), [""; 0]);
    assert!(!fixture.file(".partial").exists());
}

#[test]
fn a_bootstrap_killed_while_it_fetches_the_kernel_goes_on() {
    killed_in("block-kernel", &[Done, Cached, Done, Done, Done, Done]);
}

#[test]
fn a_bootstrap_killed_while_it_builds_an_image_goes_on() {
    killed_in("block-two", &[Done, Cached, Cached, Cached, Cached, Done]);
}

#[test]
fn a_bootstrap_killed_in_a_download_fetches_only_the_rest() {
    let fixture = Fixture::new();
    fs::write(fixture.root.join("url"), &fixture.host.url).unwrap();
    fixture.host.stall_after(Some(40));
    let mut child = Command::new(this_test())
        .args(["--exact", "bootstrap_in_another_process", "--nocapture"])
        .env("BANGER_TEST_FIXTURE", &fixture.root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let part = fixture.file(".partial/firecracker/archive.tgz.part");
    while part.metadata().map_or(0, |m| m.len()) < 40 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fixture.host.stall_after(None);
    let (report, _) = fixture.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!(fixture.host.starts(), [0, 40]);
}

#[test]
fn the_manifest_has_the_modules_that_the_guest_wants() {
    assert_eq!(Manifest::embedded().kernel.modules, banger::guest::MODULES);
}

#[test]
fn the_set_up_installs_every_program_that_the_bootstrap_wants() {
    let mut fixture = Fixture::new();
    fixture.options.path = "/nonexistent".into();
    let (report, steps) = fixture.run();
    assert_eq!(steps[0].1, Failed);
    assert_eq!(steps[1].1, Pending, "nothing is begun that cannot be ended");
    let hint = &report.problems[0].hint;
    let packages = hint.strip_prefix("sudo apt-get install --no-install-recommends ").unwrap();
    let setup =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/setup.sh")).unwrap();
    for package in packages.split(' ').filter(|p| *p != "apt") {
        assert!(setup.contains(&format!(":{package}")), "{package} is not in scripts/setup.sh");
    }
}
