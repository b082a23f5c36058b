//! Images made from others: by mounting, in a VM; what fails half-way, or is killed, leaves nothing.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Home, Load, Said, lives, runtime_dir, screen::Tui, signal, skip, until, until_or};
use nix::{sys::signal::Signal, unistd::geteuid};

/// A home for a test that mounts images: as root, where there are loop devices.
fn mounting(test: &str, load: Load) -> Option<Home> {
    if !geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        skip(test, "mounting an image needs root and loop devices");
        return None;
    }
    Home::with_runtime(test, load)
}

/// Writes a recipe into the home; its path.
fn recipe(home: &Home, text: &str) -> String {
    let path = home.path().join("recipe.toml");
    fs::write(&path, text).expect("the recipe");
    path.to_str().expect("UTF-8").to_owned()
}

/// Builds by mounting, without a test boot.
fn build(home: &Home, text: &str) -> Said {
    let path = recipe(home, text);
    home.run(&["images", "build", &path, "--yes", "--engine", "chroot", "--no-test-boot"])
}

/// The disk of an image.
fn disk(home: &Home, name: &str) -> PathBuf {
    let text = fs::read_to_string(home.layout().images().join(name).join("image.json"));
    let image: serde_json::Value = serde_json::from_str(&text.expect("image.json")).expect("JSON");
    home.layout().base(image["sha256"].as_str().expect("a sum"))
}

/// A file of an image.
fn file_of(home: &Home, image: &str, path: &str) -> String {
    let mut debugfs = Command::new("/sbin/debugfs");
    let run = debugfs.args(["-R", &format!("cat {path}")]).arg(disk(home, image)).output();
    String::from_utf8_lossy(&run.expect("debugfs").stdout).into_owned()
}

/// The names in the directory of images.
fn images(home: &Home) -> BTreeSet<String> {
    let entries = fs::read_dir(home.layout().images()).into_iter().flatten();
    entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The loop devices whose file is in this home.
fn loops(home: &Home) -> Vec<String> {
    let of = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    let all = fs::read_dir("/sys/block").expect("/sys/block").flatten().filter_map(of);
    all.filter(|file| file.contains(home.path().to_str().expect("UTF-8"))).collect()
}

#[test]
fn a_recipe_that_is_wrong_is_refused_with_all_that_is() {
    let test = "a_recipe_that_is_wrong_is_refused_with_all_that_is";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let said = build(&home, "nmae = \"a\"\nbase = \"tiny\"\nsize_mib = \"big\"\n");
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in ["name is missing", "line 1: ", "did you mean “name”", "line 3: size_mib"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let said = build(
        &home,
        "name = \"a\"\nbase = \"tiny\"\nsize_mib = 16\npackages = \"a_b\"\n\
         [[files]]\nfrom = \"/nonexistent\"\nto = \"/x\"\n",
    );
    for part in ["packages, line 1", "never shrunk", "/nonexistent"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let said = build(&home, "name = \"a\"\nbase = \"tiyn\"\n");
    assert!(said.err.contains("there is no image “tiyn”"), "{said:?}");
    assert_eq!(images(&home), BTreeSet::new());
}

#[test]
fn a_step_that_fails_keeps_nothing_and_says_why() {
    let test = "a_step_that_fails_keeps_nothing_and_says_why";
    let Some(home) = mounting(test, Load::Light) else { return };
    let said = build(
        &home,
        "name = \"a\"\nbase = \"tiny\"\nscript = \"sleep 1000 & echo no way >&2; exit 7\"\n",
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in ["==> 3/5 script", "    no way", "the script ended with status 7"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!((images(&home), loops(&home)), (BTreeSet::new(), Vec::new()));
    assert_eq!(home.processes(""), BTreeSet::new());
    // Packages need a distribution.
    let said = build(&home, "name = \"a\"\nbase = \"tiny\"\npresets = [\"docker\"]\n");
    assert!(said.err.contains("has no apt"), "{said:?}");
    let said = build(&home, "name = \"a\"\nbase = \"tiny\"\npackages = \"tree-\"\n");
    assert!(said.err.contains("nothing can be taken out"), "{said:?}");
    assert_eq!(images(&home), BTreeSet::new());
}

#[test]
fn a_build_that_is_killed_leaves_no_mount_no_loop_and_no_process() {
    let test = "a_build_that_is_killed_leaves_no_mount_no_loop_and_no_process";
    let Some(home) = mounting(test, Load::Light) else { return };
    let path =
        recipe(&home, "name = \"a\"\nbase = \"tiny\"\nscript = \"echo begun; sleep 86399\"\n");
    let options = ["--yes", "--engine", "chroot", "--no-test-boot"];
    let words = ["images", "build", &path];
    let running = home.spawn(&[&words[..], &options[..]].concat());
    let log = || {
        let dir = images(&home).into_iter().next().unwrap_or_default();
        fs::read_to_string(home.layout().images().join(dir).join("build.log")).unwrap_or_default()
    };
    until_or("the script", || log().contains("    begun").then_some(()), log);
    assert_eq!(loops(&home).len(), 1);
    let holder = home.only("holder", &home.processes(" own-root "));
    let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    // The holder's own children: all that runs in its namespace.
    let inside: Vec<i32> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| space(*pid).is_some() && space(*pid) == space(holder))
        .collect();
    assert!(inside.len() >= 2, "{inside:?}");
    // From another terminal there is a way in, while it runs.
    let said = home.run_with(home.command(&["images", "shell"]), b"cat /etc/os-release; exit\n");
    assert!(said.out.contains("banger-tiny"), "{said:?}");

    signal(running.pid(), Signal::SIGKILL);
    until("all in the namespace are gone", || inside.iter().all(|pid| !lives(*pid)));
    until("the loop is gone", || loops(&home).is_empty());
    let table = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!table.contains(home.path().to_str().expect("UTF-8")), "{table}");
    until_or(
        "the next banger sweeps what is left",
        || {
            home.ok(&["ls"]);
            images(&home).is_empty().then_some(())
        },
        || home.report(),
    );
}

#[test]
fn a_dry_run_that_is_ended_leaves_nothing() {
    let test = "a_dry_run_that_is_ended_leaves_nothing";
    let Some(home) = mounting(test, Load::Light) else { return };
    if !runtime_dir().join("images/debian.img").is_file() {
        return skip(test, "the runtime directory has no image debian");
    }
    let path = recipe(&home, "name = \"a\"\nbase = \"debian\"\npackages = \"tree\"\n");
    let running = home.spawn(&["images", "build", &path, "--dry-run"]);
    until("the copy is mounted", || !loops(&home).is_empty());
    signal(running.pid(), Signal::SIGTERM);
    let said = running.end();
    assert_eq!(said.code, Some(128 + Signal::SIGTERM as i32), "{said:?}");
    assert_eq!((images(&home), loops(&home)), (BTreeSet::new(), Vec::new()), "{said:?}");
    assert_eq!(home.processes(""), BTreeSet::new(), "{said:?}");
}

#[test]
fn at_a_terminal_a_failed_step_is_mended_by_hand_and_tried_again() {
    let test = "at_a_terminal_a_failed_step_is_mended_by_hand_and_tried_again";
    let Some(home) = mounting(test, Load::Light) else { return };
    let path = recipe(
        &home,
        "name = \"a\"\nbase = \"tiny\"\nscript = \"cat /tmp/mended > /etc/mended\"\n",
    );
    let words = [env!("CARGO_BIN_EXE_banger"), "images", "build", &path];
    let mut words = words.to_vec();
    words.extend(["--engine", "chroot", "--no-test-boot"]);
    let mut tui = Tui::program(&home, &words, (120, 50));
    tui.see("build it? [y/N]");
    tui.keys("y\n");
    tui.see("[r]etry");
    tui.keys("xs");
    tui.see("`exit` goes on");
    tui.see("(image a) ~ #");
    tui.keys("echo by hand >/tmp/mended; exit\n");
    tui.wait("the question again", |screen| screen.matches("[r]etry").count() == 2);
    tui.keys("r");
    tui.see("a is ready");
    assert_eq!(tui.end(), 0);
    assert_eq!(file_of(&home, "a", "/etc/mended"), "by hand\n");
    // And given up.
    fs::write(&path, "name = \"b\"\nbase = \"tiny\"\nscript = \"sleep 86398\"\n").expect("recipe");
    let mut tui = Tui::program(&home, &[&words[..], &["--yes"]].concat(), (120, 50));
    tui.see("3/5 script");
    tui.keys("\u{3}");
    tui.see("[a]bort?");
    tui.keys("a");
    assert_eq!(tui.end(), 130);
    assert_eq!(images(&home), BTreeSet::from(["a".to_owned()]));
    assert_eq!(loops(&home), Vec::<String>::new());
}

#[test]
fn a_terminal_that_closes_ends_a_build_whatever_its_shell_runs() {
    let test = "a_terminal_that_closes_ends_a_build_whatever_its_shell_runs";
    let Some(home) = mounting(test, Load::Light) else { return };
    let path = recipe(&home, "name = \"a\"\nbase = \"tiny\"\nscript = \"exit 1\"\n");
    let words = [env!("CARGO_BIN_EXE_banger"), "images", "build", &path, "--yes"];
    let options = ["--engine", "chroot", "--no-test-boot"];
    let mut tui = Tui::program(&home, &[&words[..], &options[..]].concat(), (120, 50));
    tui.see("[r]etry");
    tui.keys("s");
    tui.see("(image a) ~ #");
    tui.keys("trap '' HUP; echo al\\ways; sleep 86396\n");
    tui.see("always");
    // As the kernel does to the first of its session.
    tui.signal(Signal::SIGHUP);
    assert_eq!(tui.end(), 129);
    until_or("all has ended", || home.processes("").is_empty().then_some(()), || home.report());
    assert_eq!((images(&home), loops(&home)), (BTreeSet::new(), Vec::new()));
}

#[test]
fn what_older_images_have_too_much_is_taken_out_and_nothing_else() {
    let test = "what_older_images_have_too_much_is_taken_out_and_nothing_else";
    if !geteuid().is_root() {
        return skip(test, "chroot needs root");
    }
    let tiny = runtime_dir().join("images/tiny.img");
    if !tiny.is_file() {
        return skip(test, "the runtime directory has no image tiny");
    }
    // An image of the older layout, as a directory: a step works on that as well.
    let dir = tempfile::tempdir().expect("temp");
    let (root, work) = (dir.path().join("root"), dir.path().join("work"));
    for made in [&root, &work] {
        fs::create_dir(made).expect("directory");
    }
    let mut debugfs = Command::new("/sbin/debugfs");
    debugfs.args(["-R", &format!("rdump / {}", root.display())]).arg(tiny);
    assert!(debugfs.output().expect("debugfs").status.success());
    let kept = "# /home and /var are disks of their own\n\
        /dev/vda / ext4 defaults 0 1\n\
        files:/home /home nfs defaults 0 0\n\
        /dev/vdd /srv ext4 defaults 0 2\n\
        #/dev/vdb /home ext4 defaults 0 2\n\
        UUID=0a1b /var ext4 defaults 0 2\n";
    let old = "/dev/vdb  /home  ext4  defaults,nofail  0 2\nLABEL=var\t/var\text4 noatime 0 2\n";
    fs::write(root.join("etc/fstab"), format!("{old}{kept}")).expect("fstab");
    let units = root.join("etc/systemd/system");
    let wants = units.join("local-fs.target.wants");
    fs::create_dir_all(&wants).expect("units");
    fs::write(units.join("home.mount"), "[Mount]\nWhat=/dev/vdb\nWhere=/home\n").expect("unit");
    std::os::unix::fs::symlink("../home.mount", wants.join("home.mount")).expect("link");
    let own = "[Mount]\nWhat=files:/var\nWhere=/var\n";
    fs::write(units.join("var.mount"), own).expect("unit");

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/customize/60-legacy.sh");
    for _again in 0..2 {
        let run = Command::new("sh").arg(&script).env("ROOT", &root).env("WORK", &work).output();
        let run = run.expect("sh");
        assert!(run.status.success(), "{run:?}");
        assert_eq!(fs::read_to_string(root.join("etc/fstab")).expect("fstab"), kept, "{run:?}");
    }
    assert!(!units.join("home.mount").exists());
    assert!(wants.join("home.mount").symlink_metadata().is_err());
    assert_eq!(fs::read_to_string(units.join("var.mount")).expect("unit"), own);
    assert!(!root.join("var/tmp/banger-customize").exists());
}

/// Whether the machine's mirror is reached; a note if not.
fn mirror(test: &str) -> bool {
    let mut curl = Command::new("apt-get");
    let run = curl.args(["-q", "--print-uris", "download", "tree"]).output();
    let uri = run.map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).unwrap_or_default();
    let Some(uri) = uri.split('\'').nth(1).map(str::to_owned) else {
        skip(test, "apt knows no package tree: there are no lists of packages");
        return false;
    };
    let dir = tempfile::tempdir().expect("temp");
    let mut fetch = Command::new("apt-get");
    let run = fetch.args(["-q", "download", "tree"]).current_dir(dir.path()).output();
    let reached = run.is_ok_and(|run| run.status.success());
    if !reached {
        skip(test, &format!("the mirror is not reached ({uri})"));
    }
    reached
}

#[test]
fn debian_with_packages_is_built_and_runs() {
    let test = "debian_with_packages_is_built_and_runs";
    let Some(home) = mounting(test, Load::Heavy) else { return };
    if !runtime_dir().join("images/debian.img").is_file() {
        return skip(test, "the runtime directory has no image debian");
    }
    if !mirror(test) {
        return;
    }
    let text = "name = \"two\"\nbase = \"debian\"\npackages = \"tree\\njq\\nvim-tiny-\\n\"\n\
        script = \"jq --version > /etc/jq-version\"\n[[users]]\nname = \"ada\"\nsudo = true\n";
    let path = recipe(&home, text);
    let plan = home.ok(&["images", "build", &path, "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let comes: Vec<&str> = plan["packages"]["install"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|change| change["name"].as_str().expect("a name"))
        .collect();
    for name in ["jq", "libjq1", "sudo", "tree"] {
        assert!(comes.contains(&name), "{plan}");
    }
    assert_eq!(plan["packages"]["remove"], serde_json::json!(["vim-tiny"]), "{plan}");
    assert!(plan["packages"]["download_bytes"].as_u64() > Some(100_000), "{plan}");
    assert_eq!(images(&home), BTreeSet::new(), "a dry run leaves nothing");

    // A package that does not exist is named.
    let said = build(&home, "name = \"x\"\nbase = \"debian\"\npackages = \"no-such-thing\"\n");
    assert!(said.err.contains("there is no package no-such-thing"), "{said:?}");

    let said = build(&home, text);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(file_of(&home, "two", "/etc/jq-version").starts_with("jq-1."), "{said:?}");
    // Nothing of the build is in it.
    assert_eq!(file_of(&home, "two", "/usr/sbin/policy-rc.d"), "");
    assert_eq!(file_of(&home, "two", "/etc/machine-id"), "");
    let json = fs::read_to_string(home.layout().images().join("two/image.json")).expect("image");
    assert!(json.contains("\"tree ") && json.contains("\"jq ") && !json.contains("\"vim-tiny "));
    assert_eq!((images(&home).len(), loops(&home).len()), (1, 0));

    home.ok(&["create", "vm", "--image", "two", "--start", "--wait=600"]);
    let said =
        home.ok(&["ssh", "vm", "tree --version; sudo -u ada sudo id -u; cat /etc/banger-release"]);
    for part in ["tree v", "\n0\n", "IMAGE=two"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    home.ok(&["rm", "--yes", "--force", "vm"]);
    home.assert_nothing_runs();
}

#[test]
fn a_bundled_image_is_built_again_with_the_users_packages() {
    let test = "a_bundled_image_is_built_again_with_the_users_packages";
    let Some(home) = mounting(test, Load::Heavy) else { return };
    if !mirror(test) {
        return;
    }
    let wanted = home.path().join("c/banger/packages");
    fs::create_dir_all(&wanted).expect("packages");
    let image = |name: &str| -> serde_json::Value {
        let text = home.ok(&["images", "show", name, "--json"]);
        serde_json::from_str(&text).expect("JSON")
    };
    // One has apt, the other has not; from the latter nothing can be taken out.
    for (name, gone) in [("tiny", None), ("debian", Some("less"))] {
        if !runtime_dir().join(format!("images/{name}.img")).is_file() {
            skip(test, &format!("the runtime directory has no image {name}"));
            continue;
        }
        let bundled = image(name);
        let words = bundled["manifest"].as_array().expect("a manifest").iter();
        let words = words.map(|word| word.as_str().expect("a word")).filter(|w| Some(*w) != gone);
        let manifest = words.chain(["tree"]).collect::<Vec<_>>().join("\n");
        fs::write(wanted.join(format!("{name}.txt")), manifest).expect("manifest");
        let changes =
            gone.map_or("packages: +tree".to_owned(), |g| format!("packages: +tree -{g}"));
        assert_eq!(image(name)["stale"][0]["text"], changes.as_str());
        home.ok(&["create", "vm", "--image", name]);

        let again = ["images", "rebuild", name, "--yes", "--engine", "chroot", "--no-test-boot"];
        home.ok(&again);
        let own = image(name);
        assert_eq!((&own["origin"], &own["stale"]), (&"customized".into(), &serde_json::json!([])));
        assert_eq!(own["parent_sha256"], bundled["sha256"]);
        assert!(file_of(&home, name, "/usr/bin/tree").contains("ELF"));
        assert_eq!(gone.map(|_| file_of(&home, name, "/usr/bin/less")).unwrap_or_default(), "");
        assert!(home.ok(&["images", "tree"]).contains("in the place of the runtime directory's"));
        // The machine is of the bundled one until it is recreated.
        assert_eq!(home.vm("vm")["outdated"]["kind"], "rebuilt");
        home.ok(&["recreate", "--yes", "vm"]);
        assert_eq!(home.vm("vm")["image_sha256"], own["sha256"]);
        // Again, it begins with the bundled one, not with itself.
        home.ok(&again);
        assert_eq!(image(name)["parent_sha256"], bundled["sha256"]);
        let used = home.fails(&["images", "rm", "--yes", name]);
        assert!(used.err.contains("made from it: vm"), "{used:?}");
        home.ok(&["rm", "--yes", "vm"]);
        home.ok(&["images", "rm", "--yes", name]);
        assert_eq!(image(name)["origin"], "bundle");
    }
    assert_eq!((images(&home), loops(&home)), (BTreeSet::new(), Vec::new()));
    home.assert_nothing_runs();
}

#[test]
fn without_mounting_the_steps_run_in_a_vm_and_a_vm_tries_the_image() {
    let test = "without_mounting_the_steps_run_in_a_vm_and_a_vm_tries_the_image";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    let dir = home.path().join("h/tree");
    fs::create_dir_all(&dir).expect("directory");
    fs::write(dir.join("hello"), "from the host\n").expect("file");
    let text = format!(
        "name = \"web\"\nbase = \"tiny\"\nscript = \"hostname > /etc/built-on\"\n\
         [[files]]\nfrom = \"{}\"\nto = \"/srv/\"\n[[users]]\nname = \"ada\"\n",
        dir.display()
    );
    let path = recipe(&home, &text);
    let said = home.run(&["images", "build", &path, "--yes", "--engine", "vm"]);
    assert_eq!(said.code, Some(0), "{said:?}\n{}", home.report());
    assert!(said.err.contains("it boots, its SSH answers"), "{said:?}");
    assert_eq!(file_of(&home, "web", "/srv/tree/hello"), "from the host\n");
    assert_eq!(file_of(&home, "web", "/etc/built-on"), "build-web\n");
    assert!(file_of(&home, "web", "/etc/passwd").contains("ada:x:1000:"));
    assert_eq!(file_of(&home, "web", "/root/.ssh/authorized_keys"), "", "no key of the builder's");
    let mut debugfs = Command::new("/sbin/debugfs");
    let left = debugfs.args(["-R", "ls -p /var/tmp"]).arg(disk(&home, "web")).output();
    let left = String::from_utf8_lossy(&left.expect("debugfs").stdout).into_owned();
    assert!(!left.contains("banger"), "{left}");
    assert_eq!(home.list(), Vec::<serde_json::Value>::new(), "the helpers are gone");
    assert_eq!(images(&home), BTreeSet::from(["web".to_owned()]));

    let said = home.run(&["images", "rebuild", "nothing", "--yes"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("there is no image"), "{said:?}");
    home.assert_nothing_runs();
}

#[test]
fn docker_runs_a_container_in_an_image_that_is_ready_for_it() {
    let test = "docker_runs_a_container_in_an_image_that_is_ready_for_it";
    let Some(home) = mounting(test, Load::Heavy) else { return };
    if !runtime_dir().join("modules.img").is_file() {
        return skip(
            test,
            "the runtime directory has no modules.img, without which Docker has no bridge",
        );
    }
    if !mirror(test) {
        return;
    }
    let text = "name = \"dock\"\nbase = \"debian\"\npresets = [\"docker\"]\nmemory_mib = 1024\n";
    let said = build(&home, text);
    assert_eq!(said.code, Some(0), "{said:?}");
    home.ok(&["create", "vm", "--image", "dock", "--start", "--wait=600"]);
    // A container's root: a busybox that needs nothing beside it.
    let root = home.path().join("h/root");
    fs::create_dir_all(root.join("bin")).expect("root");
    let busybox = root.join("bin/busybox");
    let mut debugfs = Command::new("/sbin/debugfs");
    debugfs.args(["-R", &format!("dump -p /bin/busybox {}", busybox.display())]);
    assert!(
        debugfs.arg(runtime_dir().join("images/tiny.img")).status().expect("debugfs").success()
    );
    let tar =
        Command::new("tar").arg("-C").arg(&root).args(["-cf", "-", "."]).output().expect("tar");
    let script = "for try in $(seq 120); do docker info >/dev/null 2>&1 && break; sleep 1; done; \
        docker info --format '{{.Driver}}' && docker import - box:1 >/dev/null && \
        docker run --rm box:1 /bin/busybox sh -c \
        'echo inside; /bin/busybox ping -c 1 -W 9 172.17.0.1; /bin/busybox wc -l < /proc/1/mounts' && \
        iptables -t nat -S POSTROUTING";
    let said = home.run_with(home.command(&["ssh", "vm", script]), &tar.stdout);
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in ["overlay2\n", "inside\n", "1 packets received", "-j MASQUERADE"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    home.ok(&["rm", "--yes", "--force", "vm"]);
    home.assert_nothing_runs();
}
