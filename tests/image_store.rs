//! The store of images, with the real program: what is exported, imported, renamed and removed; disks
//! that are made anew; deaths at any step of these.

#![allow(clippy::unwrap_used)]

mod cli_kit;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use cli_kit::{Home, Ran};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// More steps than there are: where this ends, nobody has come through alive.
const MANY: u32 = 100;

/// A home whose image `tiny` is recorded with its real sum, as a bootstrap does.
fn home() -> Home {
    let home = Home::with_fake_runtime();
    let runtime = home.path().join("runtime");
    record(&runtime);
    home
}

/// Records the sum of `tiny` as it is.
fn record(runtime: &Path) {
    let record = runtime.join("bundle.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    json["files"]["images/tiny.img"]["sha256"] = sum(&runtime.join("images/tiny.img")).into();
    fs::write(record, json.to_string()).unwrap();
}

fn sum(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Exports `tiny`, and imports it as an image of the user's.
fn with_image(name: &str) -> (Home, PathBuf) {
    let home = home();
    let file = home.path().join("tiny.tar.zst");
    home.ok(&["images", "export", "tiny", file.to_str().unwrap()]);
    home.ok(&["images", "import", file.to_str().unwrap(), "--name", name]);
    (home, file)
}

fn images(home: &Home) -> Vec<Value> {
    let list: Value = serde_json::from_str(&home.ok(&["images", "ls", "--json"])).unwrap();
    list["images"].as_array().unwrap().clone()
}

fn names(home: &Home) -> Vec<String> {
    images(home).iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

/// The only VM's part of `ls --json`.
fn vm(home: &Home) -> Value {
    home.list()["vms"][0].clone()
}

/// What lies in a directory of the state, sorted.
fn files(home: &Home, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(home.state().join(dir)).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs banger with this fault; the step after which it died, if it did.
fn dies(home: &Home, fault: &str, args: &[&str]) -> Option<String> {
    let says = home.path().join("step");
    let mut command = home.command(args);
    command.env("BANGER_FAULT", format!("ui:{fault}:{}", says.display()));
    let ran = Ran::new(args, &command.output().unwrap());
    let step = fs::read_to_string(&says).ok();
    if step.is_some() {
        fs::remove_file(says).unwrap();
    } else {
        assert_eq!(ran.code, 0, "{ran}");
    }
    step
}

#[test]
fn what_was_exported_is_imported_as_it_was() {
    let (home, file) = with_image("mine");
    assert_eq!(names(&home), ["mine", "tiny"]);
    let all = images(&home);
    assert_eq!(all[0]["sha256"], all[1]["sha256"]);
    assert_eq!((&all[0]["origin"], &all[1]["origin"]), (&"imported".into(), &"bundle".into()));
    let sha256 = all[0]["sha256"].as_str().unwrap().to_owned();
    assert_eq!(files(&home, "bases"), std::slice::from_ref(&sha256));
    assert_eq!(files(&home, "images"), ["mine"]);
    assert_eq!(sum(&home.state().join("bases").join(&sha256)), sha256);
    // Holes stay holes, and cost nothing on the way.
    assert!(fs::metadata(&file).unwrap().len() < 1 << 20);
    home.ok(&["images", "verify"]);
    let again = home.run(&["images", "export", "tiny", file.to_str().unwrap()]);
    again.fails(1, &["tiny.tar.zst is there already", "choose another file"]);
    let taken = home.run(&["images", "import", file.to_str().unwrap(), "--name", "mine"]);
    taken.fails(1, &["there is an image of that name", "--replace"]);
    let taken = home.run(&["images", "import", file.to_str().unwrap()]);
    taken.fails(1, &["tiny", "the runtime directory has an image of that name"]);
    home.ok(&["images", "import", file.to_str().unwrap(), "--name", "mine", "--replace"]);
    assert_eq!((files(&home, "bases").len(), files(&home, "images")), (1, vec!["mine".into()]));

    let base = home.state().join("bases").join(&sha256);
    fs::remove_file(&base).unwrap();
    fs::copy(home.path().join("runtime/images/tiny.img"), &base).unwrap();
    let mut bytes = fs::read(&base).unwrap();
    bytes[9 << 20] ^= 1;
    fs::write(&base, bytes).unwrap();
    let broken = home.run(&["images", "verify", "mine"]);
    broken.fails(1, &["mine is not as it was made", &sha256]);
}

#[test]
fn an_image_that_cannot_be_read_is_said_and_nothing_of_it_is_removed() {
    let (home, file) = with_image("mine");
    let metadata = home.state().join("images/mine/image.json");
    let whole = fs::read(&metadata).unwrap();
    fs::write(&metadata, &whole[..40]).unwrap();
    let told = ["cannot use the image", "images/mine/image.json: it is damaged", "move "];
    // Of the others all is said as well.
    let all_but = |ran: &Ran, other: &str, told: &[&str]| {
        let all = told.iter().all(|words| ran.err.contains(words));
        assert!(ran.code == 1 && all && ran.out.contains(other), "{ran}");
    };
    all_but(&home.run(&["images"]), "tiny", &told);
    for args in [["show", "mine"], ["verify", "mine"]] {
        home.run(&["images", args[0], args[1]]).fails(1, &told);
    }
    all_but(&home.run(&["images", "verify"]), "tiny: as it was made", &told);
    let checks: Value = serde_json::from_str(&home.run(&["doctor", "--json"]).out).unwrap();
    let checks = checks["checks"].as_array().unwrap();
    let of_images = checks.iter().find(|check| check["id"] == "images").expect("a check");
    assert!(of_images["what"].as_str().unwrap().contains("mine"), "{of_images}");
    // As it may be mended, its content stays.
    home.ok(&["create", "web", "--image", "tiny"]);
    assert_eq!(files(&home, "bases").len(), 1);
    fs::write(&metadata, whole).unwrap();
    home.ok(&["images", "verify"]);
    // One without its disk is told as well.
    let base = home.state().join("bases").join(&files(&home, "bases")[0]);
    fs::remove_file(base).unwrap();
    all_but(&home.run(&["images"]), "tiny", &["cannot use the image mine", "it is missing"]);
    home.ok(&["images", "import", file.to_str().unwrap(), "--name", "mine", "--replace"]);
    home.ok(&["images", "verify"]);
    let to = home.path().join("nowhere/x");
    let nowhere = home.run(&["images", "export", "mine", to.to_str().unwrap()]);
    nowhere.fails(1, &["there is no such directory", "make it"]);
}

#[test]
fn an_image_that_cannot_be_read_is_removed_when_no_vm_was_made_from_it() {
    let (home, file) = with_image("mine");
    let metadata = |name: &str| home.state().join("images").join(name).join("image.json");
    home.ok(&["create", "web", "--image", "mine"]);
    let whole = fs::read(metadata("mine")).unwrap();
    fs::write(metadata("mine"), &whole[..40]).unwrap();
    home.run(&["images", "show", "mine"]).fails(1, &["`banger images rm mine` removes it"]);
    let before = home.listing();
    home.run(&["images", "rm", "--yes", "mine"]).fails(1, &["VMs were made from it: web"]);
    home.run(&["images", "rm", "mine"]).fails(2, &["banger images rm --yes mine"]);
    home.run(&["images", "rm", "--yes", "mine"]).fails(1, &["it is damaged"]);
    assert_eq!(home.listing(), before);
    home.ok(&["rm", "--yes", "web"]);

    // Whatever is wrong with it: damaged, gone, no file.
    type Break = fn(&Path);
    let breaks: [Break; 3] = [
        |path| fs::write(path, "{").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    for (n, damage) in breaks.into_iter().enumerate() {
        home.ok(&["images", "import", file.to_str().unwrap(), "--name", "mine", "--replace"]);
        damage(&metadata("mine"));
        home.ok(&["images", "rm", "--yes", "mine", "mine"]);
        let left = (files(&home, "images"), files(&home, "bases"));
        assert_eq!(left, (vec![], vec![]), "damage {n}");
        home.ok(&["images"]);
    }

    // In the place of the runtime directory's it makes way for that; what others need stays.
    for name in ["mine", "tiny"] {
        home.ok(&["images", "import", file.to_str().unwrap(), "--name", name, "--replace"]);
    }
    fs::write(metadata("tiny"), "{").unwrap();
    home.ok(&["images", "rm", "--yes", "tiny"]);
    assert_eq!(
        (names(&home), files(&home, "bases").len()),
        (vec!["mine".into(), "tiny".into()], 1)
    );
    assert_eq!(files(&home, "images"), ["mine"]);
    home.run(&["images", "rm", "--yes", "tiny"]).fails(1, &["part of the runtime directory"]);
    home.run(&["images", "rm", "--yes", "min"]).fails(1, &["did you mean mine?"]);
}

#[test]
fn a_vm_holds_its_image_which_may_get_another_name() {
    let (home, _) = with_image("mine");
    home.ok(&["create", "web", "--image", "mine"]);
    let sha256 = images(&home)[0]["sha256"].clone();
    assert_eq!(
        (vm(&home)["image"].clone(), vm(&home)["image_sha256"].clone()),
        ("mine".into(), sha256)
    );
    home.run(&["images", "rm", "--yes", "mine"]).fails(1, &["VMs were made from it: web"]);
    home.run(&["images", "rm", "--yes", "tiny"]).fails(1, &["part of the runtime directory"]);
    home.run(&["images", "rename", "mine", "tiny"]).fails(1, &["there is an image tiny"]);
    home.run(&["images", "rename", "mine", "../x"]).fails(1, &["names no image"]);
    home.ok(&["images", "rename", "mine", "yours"]);
    assert_eq!(names(&home), ["tiny", "yours"]);
    assert_eq!(vm(&home)["image"], "yours");
    assert_eq!(vm(&home)["outdated"], Value::Null);
    home.ok(&["rm", "--yes", "web"]);
    home.ok(&["images", "rm", "--yes", "yours"]);
    assert_eq!(names(&home), ["tiny"]);
    assert_eq!((files(&home, "bases"), files(&home, "images")), (vec![], vec![]));
}

#[test]
fn a_vm_of_an_older_image_is_marked_and_made_anew() {
    let home = home();
    home.ok(&["create", "web", "--image", "tiny"]);
    let before = vm(&home);
    let image = home.path().join("runtime/images/tiny.img");
    let mut disk = fs::File::options().write(true).open(&image).unwrap();
    std::io::Seek::seek(&mut disk, std::io::SeekFrom::Start(8 << 20)).unwrap();
    disk.write_all(b"something else").unwrap();
    record(&home.path().join("runtime"));
    let old = vm(&home);
    assert_eq!(old["outdated"]["kind"], "rebuilt", "{old}");
    assert!(home.ok(&["ls"]).contains("tiny*"));
    home.run(&["recreate", "web"]).fails(2, &["--yes"]);
    let disk = home.state().join("vms").join(old["id"].as_str().unwrap()).join("root.img");
    let mut steps = Vec::new();
    for nth in 0..MANY {
        let Some(step) = dies(&home, &nth.to_string(), &["recreate", "--yes", "web"]) else {
            break;
        };
        // The old disk or the new one, whole, and the record says which.
        home.ok(&["ls"]);
        let now = vm(&home);
        assert_eq!(now["state"], "stopped", "{step}: {now}");
        assert_eq!(now["image_sha256"].as_str().unwrap(), sum(&disk), "{step}");
        let left = files(&home, &format!("vms/{}", old["id"].as_str().unwrap()));
        assert_eq!(left, ["root.img"], "{step}");
        steps.push(step);
    }
    assert!(steps.iter().any(|step| step.contains("counts")) && steps.len() > 4, "{steps:?}");
    let new = vm(&home);
    assert_eq!(new["outdated"], Value::Null, "{new}");
    assert_eq!(new["image_sha256"].as_str().unwrap(), sum(&image));
    assert_eq!(
        (&new["id"], &new["name"], &new["created_ms"]),
        (&before["id"], &before["name"], &before["created_ms"])
    );
}

#[test]
fn a_death_at_any_step_leaves_the_old_image_or_the_new_one_whole() {
    let (home, file) = with_image("mine");
    let file = file.to_str().unwrap().to_owned();
    home.ok(&["create", "web", "--image", "mine"]);
    let whole = |step: &str, names: &[String]| {
        home.ok(&["images", "verify"]);
        // What is swept is swept beside the first verb that has a supervisor.
        home.ok(&["ls"]);
        let left = files(&home, "images");
        assert!(left.iter().all(|name| names.contains(name)), "{step}: {left:?}");
        let bases = files(&home, "bases").len();
        assert!(bases <= 1, "{step}: {bases} contents");
    };
    let mut steps = Vec::new();
    let verbs: [&[&str]; 4] = [
        &["images", "import", &file, "--name", "mine", "--replace"],
        &["images", "import", &file, "--name", "other", "--replace"],
        &["images", "rm", "--yes", "other"],
        &["images", "rename", "mine", "other"],
    ];
    for verb in verbs {
        for nth in 0..MANY {
            if verb[1] == "rm" && !names(&home).contains(&"other".into()) {
                home.ok(&["images", "import", &file, "--name", "other"]);
            }
            if verb[1] == "rename" && names(&home).contains(&"other".into()) {
                home.ok(&["images", "rename", "other", "mine"]);
            }
            let Some(step) = dies(&home, &nth.to_string(), verb) else { break };
            let names = names(&home);
            whole(&step, &names);
            // The VM's image is there under the name the VM has for it.
            let image = vm(&home)["image"].as_str().unwrap().to_owned();
            assert!(names.contains(&image), "{step}: {image} of {names:?}");
            assert_eq!(vm(&home)["outdated"], Value::Null, "{step}");
            steps.push(step);
        }
    }
    for part in ["published", "off the list", "was renamed", "put in its place"] {
        assert!(steps.iter().any(|step| step.contains(part)), "{part}: {steps:#?}");
    }
    assert_eq!(names(&home), ["other", "tiny"]);
}

/// A file as `banger images export` makes them, of these members.
fn archive(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar =
        tar::Builder::new(zstd::Encoder::new(fs::File::create(path).unwrap(), 1).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        // Past what `set_path` accepts.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_bad_file_is_refused_and_nothing_is_left_of_it() {
    let (home, good) = with_image("mine");
    let disk = fs::read(home.path().join("runtime/images/tiny.img")).unwrap();
    let bytes = fs::read(&good).unwrap();
    let before = home.listing();
    let bad = home.path().join("bad.tar.zst");
    let path = bad.to_str().unwrap().to_owned();
    let refused = |says: &[&str]| {
        let ran = home.run(&["images", "import", &path, "--name", "bad"]);
        ran.fails(1, says);
        assert_eq!(home.listing(), before, "{ran}");
        assert!(!home.path().join("escaped").exists() && !home.state().join("escaped").exists());
    };
    for part in [bytes.len() / 2, bytes.len() - 3] {
        fs::write(&bad, &bytes[..part]).unwrap();
        refused(&["cannot import"]);
    }
    let mut flipped = bytes;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    fs::write(&bad, &flipped).unwrap();
    refused(&["cannot import"]);
    fs::write(&bad, "no archive at all").unwrap();
    refused(&["cannot import"]);

    let json = |change: &dyn Fn(&mut Value)| {
        let mut json = serde_json::json!({
            "schema": 1, "name": "x", "data": disk.len(), "sha256": sum(&home.path().join("runtime/images/tiny.img")),
            "size": disk.len(), "default_memory_mib": 128, "origin": "imported",
        });
        change(&mut json);
        json.to_string()
    };
    let plain = json(&|_| ());
    let try_it = |members: &[(&str, &[u8])], says: &[&str]| {
        archive(&bad, members);
        refused(says);
    };
    let json_of = |text: &str| text.as_bytes().to_vec();
    for evil in ["../escaped", "/tmp/../escaped", "root.img/../../escaped", "escaped"] {
        try_it(&[("image.json", &json_of(&plain)), (evil, b"x"), ("root.img", &disk)], &[evil]);
    }
    try_it(&[("image.json", &json_of(&plain))], &["no disk"]);
    try_it(
        &[("image.json", &json_of(&plain)), ("root.img", &disk), ("root.img", &disk)],
        &["root.img"],
    );
    try_it(
        &[("image.json", &json_of(&plain)), ("root.img", &disk[..4096])],
        &["4096 bytes instead of"],
    );
    let little = json(&|json| json["data"] = 4096.into());
    try_it(&[("image.json", &json_of(&little)), ("root.img", &disk)], &["more data than it says"]);
    // Not one byte more is written: where the others are, a file may not reach.
    let mut late = vec![0; disk.len()];
    late[..4096].fill(1);
    late[900 << 10..1 << 20].fill(1);
    archive(&bad, &[("image.json", &json_of(&little)), ("root.img", &late)]);
    let import = home.command(&["images", "import", &path, "--name", "bad"]);
    let mut within = std::process::Command::new("sh");
    // In units of 512 bytes (POSIX).
    within.args(["-c", "ulimit -f 1600 && exec \"$@\"", "sh"]).arg(import.get_program());
    within.args(import.get_args()).env_clear();
    within.envs(import.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::new(&["images", "import", "within 800 KiB"], &within.output().unwrap());
    ran.fails(1, &["more data than it says"]);
    assert_eq!(home.listing(), before, "{ran}");

    let other = json(&|json| json["sha256"] = "ab".repeat(32).into());
    try_it(
        &[("image.json", &json_of(&other)), ("root.img", &disk)],
        &["sha256 is", &"ab".repeat(32)],
    );
    let huge = json(&|json| {
        json["size"] = (1_u64 << 43).into();
        json["data"] = (1_u64 << 43).into();
    });
    try_it(&[("image.json", &json_of(&huge)), ("root.img", &disk)], &["MiB are free"]);
    let no_name = json(&|json| json["sha256"] = "../../escaped".into());
    try_it(&[("image.json", &json_of(&no_name)), ("root.img", &disk)], &["sha256"]);
    let bomb = vec![b'#'; 20 << 20];
    try_it(&[("image.json", &bomb)], &["cannot import"]);
    try_it(
        &[("image.json", &json_of(&plain)), ("packages.txt", &bomb), ("root.img", &disk)],
        &["larger than it may be"],
    );
    let zeros = vec![0; 1 << 20];
    try_it(&[("image.json", &json_of(&plain)), ("root.img", &zeros)], &["bytes instead of"]);
    // A good one of the same kind is taken.
    archive(&bad, &[("image.json", &json_of(&plain)), ("root.img", &disk)]);
    home.ok(&["images", "import", &path, "--name", "good"]);
    home.ok(&["images", "verify", "good"]);
}

#[test]
fn a_manifest_of_the_users_makes_an_image_stale_until_it_is_as_wanted() {
    let home = home();
    let record = home.path().join("runtime/bundle.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    json["images"]["tiny"]["packages"] = "busybox-static\n".into();
    json["images"]["tiny"]["packages_sha256"] = "ab".repeat(32).into();
    fs::write(&record, json.to_string()).unwrap();
    let wanted = home.config().join("packages");
    fs::create_dir_all(&wanted).unwrap();
    fs::write(wanted.join("tiny.txt"), "# the same\nbusybox-static\n").unwrap();
    assert_eq!(images(&home)[0]["stale"], serde_json::json!([]));
    fs::write(wanted.join("tiny.txt"), "git\nbusybox-static\n").unwrap();
    home.ok(&["create", "web", "--image", "tiny"]);
    assert_eq!(images(&home)[0]["stale"][0]["text"], "packages: +git");
    assert!(home.ok(&["images"]).contains("tiny*"));
    assert!(home.ok(&["images", "tree"]).contains("packages: +git"));
    assert_eq!(vm(&home)["outdated"]["kind"], "stale");
    fs::write(wanted.join("tiny.txt"), "Git\n").unwrap();
    let ran = home.run(&["images"]);
    assert!(ran.code == 0 && ran.err.contains("tiny.txt:1"), "{ran}");
    // One that is too long is not read up to there: of what is cut off, nobody would know.
    let long = format!("busybox-static\n{}git\n", "#\n".repeat(2 << 20));
    fs::write(wanted.join("tiny.txt"), long).unwrap();
    let ran = home.run(&["images"]);
    let told = ["tiny.txt: it has more than 4 MiB", "correct or remove"];
    assert!(ran.code == 0 && told.iter().all(|words| ran.err.contains(words)), "{ran}");
}

#[test]
fn several_at_once_agree() {
    let (home, file) = with_image("mine");
    let file = file.to_str().unwrap().to_owned();
    let runs = |all: &[&[&str]]| -> Vec<i32> {
        let children: Vec<_> = all.iter().map(|args| home.command(args).output_later()).collect();
        children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect()
    };
    // Only one of two who remove it does.
    let removed = runs(&[&["images", "rm", "--yes", "mine"], &["images", "rm", "--yes", "mine"]]);
    assert!(removed.contains(&0), "{removed:?}");
    assert_eq!((names(&home), files(&home, "bases").len()), (vec!["tiny".to_owned()], 0));
    // Only one of two who import it under one name does, and it is whole.
    let import: &[&str] = &["images", "import", &file, "--name", "mine"];
    let mut imported = runs(&[import, import]);
    imported.sort_unstable();
    assert_eq!(imported, [0, 1]);
    home.ok(&["images", "verify", "mine"]);
    // A VM that is made while its image gets another name has that, or there is no VM.
    for (old, new) in [("mine", "yours"), ("yours", "mine")] {
        let both = runs(&[&["create", "web", "--image", old], &["images", "rename", old, new]]);
        assert_eq!(both[1], 0, "{both:?}");
        if both[0] == 0 {
            assert_eq!((&vm(&home)["image"], &vm(&home)["outdated"]), (&new.into(), &Value::Null));
            home.ok(&["rm", "--yes", "web"]);
        }
        assert_eq!(home.names(), [""; 0]);
    }
}

/// A command that is waited for later.
trait Later {
    fn output_later(&mut self) -> std::process::Child;
}

impl Later for std::process::Command {
    fn output_later(&mut self) -> std::process::Child {
        use std::process::Stdio;
        self.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}
