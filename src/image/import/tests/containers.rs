//! Container images: OCI layouts, and what `docker save` wrote before it knew them.

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Done, Maker, Options, run, run_bytes};

fn sha256(bytes: &[u8]) -> String {
    crate::bundle::hex(&Sha256::digest(bytes))
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("packed");
    gzip.finish().expect("packed")
}

/// An OCI layout: names and contents.
struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
    index: Vec<Value>,
}

impl Layout {
    fn new() -> Self {
        Self { blobs: Vec::new(), index: Vec::new() }
    }

    fn blob(&mut self, bytes: Vec<u8>) -> String {
        let hex = sha256(&bytes);
        self.blobs.push((format!("blobs/sha256/{hex}"), bytes));
        format!("sha256:{hex}")
    }

    /// Adds an image of these layers: the first plain, then gzip, then Zstandard.
    fn image(&mut self, arch: &str, name: &str, layers: &[Vec<u8>]) -> &mut Self {
        let ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
        let config = json!({
            "architecture": arch, "os": "linux",
            "config": {
                "Env": ["PATH=/opt/bin:/bin", "GREETING=it's me", "bad name=x"],
                "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "true"]
            },
            "rootfs": {"type": "layers", "diff_ids": ids}
        });
        let config = self.blob(config.to_string().into_bytes());
        let layers: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(index, layer)| match index % 3 {
                0 => layer.clone(),
                1 => gzip(layer),
                _ => zstd::encode_all(layer.as_slice(), 1).expect("packed"),
            })
            .map(|packed| json!({"mediaType": "layer", "digest": self.blob(packed), "size": 0}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config}, "layers": layers});
        let manifest = self.blob(manifest.to_string().into_bytes());
        self.index.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": 0,
            "platform": {"os": "linux", "architecture": arch},
            "annotations": {"org.opencontainers.image.ref.name": name}
        }));
        self
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": self.index}).to_string();
        let layout = r#"{"imageLayoutVersion": "1.0.0"}"#;
        let mut files = self.blobs.clone();
        files.push(("oci-layout".into(), layout.into()));
        files.push(("index.json".into(), index.into_bytes()));
        files
    }

    fn archive(&self) -> Vec<u8> {
        let mut maker = Maker::new();
        maker.dir("blobs/").dir("blobs/sha256/");
        for (name, bytes) in self.files() {
            maker.file(&name, 0o644, &bytes);
        }
        maker.done()
    }

    fn run_dir(&self) -> Done {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("blobs/sha256")).expect("made");
        for (name, bytes) in self.files() {
            fs::write(dir.path().join(name), bytes).expect("written");
        }
        run(dir.path(), &Options::default())
    }
}

fn base() -> Vec<u8> {
    let mut maker = Maker::new();
    maker
        .dir("bin/")
        .file("bin/sh", 0o755, b"#!")
        .dir("usr/")
        .dir("usr/lib/")
        .link("lib", "usr/lib");
    maker
        .dir("etc/")
        .dir("etc/profile.d/")
        .file("etc/old", 0o644, b"old")
        .dir("gone/")
        .file("gone/x", 0o644, b"");
    maker.dir("var/").dir("var/cache/").file("var/cache/a", 0o644, b"").dir("var/cache/sub/");
    maker.file("var/cache/sub/b", 0o644, b"").file("file-then-dir", 0o644, b"");
    maker.done()
}

fn second() -> Vec<u8> {
    let mut maker = Maker::new();
    // What is new may come before what hides the old.
    maker.dir("var/cache/").dir("var/cache/sub/").file("var/cache/sub/new", 0o644, b"n");
    maker.file("var/cache/.wh..wh..opq", 0o644, b"").file("etc/.wh.old", 0o644, b"");
    maker.file(".wh.gone", 0o644, b"").file("lib/through", 0o644, b"t");
    maker.dir("file-then-dir/").file("file-then-dir/x", 0o644, b"").file(
        "etc/.wh.never",
        0o644,
        b"",
    );
    maker.file("etc/.wh..wh.plnk", 0o644, b"").file("etc/again", 0o644, b"2");
    maker.done()
}

fn third() -> Vec<u8> {
    let mut maker = Maker::new();
    maker.file("etc/again", 0o600, b"3").hard("etc/same", "etc/again").dir("gone/");
    maker.done()
}

fn check_layers(done: &Done) {
    done.image();
    for there in
        ["/var/cache/sub/new", "/usr/lib/through", "/file-then-dir/x", "/gone", "/etc/same"]
    {
        assert!(done.has(there), "{there}");
    }
    for hidden in ["/var/cache/a", "/var/cache/sub/b", "/etc/old", "/gone/x", "/etc/.wh.old"] {
        assert!(!done.has(hidden), "{hidden}");
    }
    assert_eq!(done.ask("cat /etc/again"), "3");
    assert!(done.stat("/lib").contains("Type: symlink"));
    let environment = done.ask("cat /etc/banger/environment");
    assert!(environment.contains("export PATH='/opt/bin:/bin'\n"), "{environment}");
    assert!(environment.contains("export GREETING='it'\\''s me'\n"), "{environment}");
    assert!(!environment.contains("bad name"), "{environment}");
    assert!(done.noted("the only way in"), "{:?}", done.notes);
}

#[test]
fn layers_are_applied_in_order_with_their_whiteouts() {
    let mut layout = Layout::new();
    layout.image("riscv64", "x", &[base()]).image(arch(), "mine:1", &[base(), second(), third()]);
    let done = run_bytes(&layout.archive());
    check_layers(&done);
    let imported = done.result.as_ref().expect("imported");
    assert_eq!(imported.name.as_deref(), Some("mine:1"));
    assert_eq!(imported.command, ["/bin/sh", "-c", "true"]);
    // The same as a directory, and as a compressed archive.
    let image = done.bytes();
    assert!(layout.run_dir().bytes() == image);
    assert!(run_bytes(&gzip(&layout.archive())).bytes() == image);
}

#[test]
fn what_docker_saved_before_it_knew_the_standard_is_understood() {
    let layers = [base(), second(), third()];
    let ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let config = json!({
        "architecture": arch(), "os": "linux", "rootfs": {"diff_ids": ids},
        "config": {"Env": ["PATH=/opt/bin:/bin", "GREETING=it's me"]}
    });
    let config = config.to_string();
    let id = |n: usize| sha256(&[u8::try_from(n).expect("small")]);
    let make = |saved: &Value, layers: &[Vec<u8>]| {
        let mut maker = Maker::new();
        for (n, layer) in layers.iter().enumerate() {
            maker.dir(&format!("{}/", id(n))).file(&format!("{}/VERSION", id(n)), 0o644, b"1.0");
            maker.file(&format!("{}/layer.tar", id(n)), 0o644, layer);
        }
        // As for layers that two images share.
        maker.link(&format!("{}/layer.tar", id(9)), &format!("../{}/layer.tar", id(2)));
        maker.file(&format!("{}.json", sha256(config.as_bytes())), 0o644, config.as_bytes());
        maker.file("manifest.json", 0o644, saved.to_string().as_bytes());
        run_bytes(&maker.done())
    };
    let image = |tag: &str| {
        let layers = [0, 1, 9].map(|n| format!("{}/layer.tar", id(n)));
        json!({
            "Config": format!("{}.json", sha256(config.as_bytes())), "RepoTags": [tag],
            "Layers": layers
        })
    };
    check_layers(&make(&json!([image("a:1")]), &layers));
    let why = make(&json!([image("a:1"), image("b:2")]), &layers).refused();
    assert!(why.contains("2 images in it: a:1, b:2"), "{why}");
    let why = make(&json!([image("a:1")]), &[base(), third(), second()]).refused();
    assert!(why.contains("layer 2 is another one"), "{why}");
    let outside = json!([{"Config": "/etc/passwd", "Layers": ["../../etc/passwd"]}]);
    assert!(make(&outside, &layers).refused().contains("missing"));
}

#[test]
fn an_image_that_is_not_what_it_says_is_refused() {
    let bent = |bend: &dyn Fn(&mut Layout)| {
        let mut layout = Layout::new();
        layout.image(arch(), "a", &[base(), second()]);
        bend(&mut layout);
        let archive = run_bytes(&layout.archive()).refused();
        assert_eq!(archive, layout.run_dir().refused(), "as a directory");
        archive
    };
    // A bit of each part, and each part missing.
    for part in 0..4 {
        let why = bent(&|layout| {
            let bytes = &mut layout.blobs[part].1;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        assert!(why.contains("is another one (sha256:"), "{part}: {why}");
        let why = bent(&|layout| drop(layout.blobs.remove(part)));
        assert!(why.contains("missing"), "{part}: {why}");
    }
    let why = bent(&|layout| layout.index[0]["platform"]["architecture"] = "s390x".into());
    assert!(why.contains("it is for linux/s390x"), "{why}");
    let why = bent(&|layout| layout.index.clear());
    assert!(why.contains("no image in it"), "{why}");
    let why = bent(&|layout| {
        layout.image(arch(), "b", &[third()]);
    });
    assert!(why.contains("2 images in it: "), "{why}");
    let why = bent(&|layout| layout.index[0]["digest"] = "sha256:../../../etc/passwd".into());
    assert!(why.contains("no digest"), "{why}");
    let why = bent(&|layout| layout.index[0]["digest"] = "md5:123".into());
    assert!(why.contains("no digest"), "{why}");
    // A layer that leads out of it.
    let mut maker = Maker::new();
    maker.link("x", "../../../../tmp").file("x/banger-evil", 0o644, b"");
    let evil = maker.done();
    for evil in [evil, Maker::new().file("../.wh.evil", 0o644, b"").done()] {
        let mut layout = Layout::new();
        layout.image(arch(), "a", &[base(), evil]);
        let why = run_bytes(&layout.archive()).refused();
        assert!(why.contains("layer 2") && why.contains("leads out"), "{why}");
    }
}

#[test]
fn a_link_in_a_layout_is_not_followed() {
    let mut layout = Layout::new();
    layout.image(arch(), "a", &[base()]);
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("blobs/sha256")).expect("made");
    let real = tempfile::tempdir().expect("a directory");
    for (name, bytes) in layout.files() {
        let file = real.path().join(name.replace('/', "-"));
        fs::write(&file, bytes).expect("written");
        std::os::unix::fs::symlink(file, dir.path().join(name)).expect("a link");
    }
    let why = run(dir.path(), &Options::default()).refused();
    assert!(why.contains("index.json"), "{why}");
}
