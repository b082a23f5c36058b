//! Images and the wizard, through the whole UI.

use std::time::Duration;

use crate::{
    domain::{
        BuildPreview, CommandBody, Fleet, ImageFacts, ImageOrigin, ImageView, PackageChange,
        PackageDiff, Phase, Preset, Problem, Recipe, StaleReason, UnixMs,
    },
    tui::{
        harness::Ui,
        state::Screen,
        testing::{fleet, vm},
    },
};

fn image(name: &str, about: &str, parent: Option<&str>) -> ImageView {
    let origin = if parent.is_some() { ImageOrigin::Customized } else { ImageOrigin::Bundle };
    ImageView {
        name: name.into(),
        about: about.into(),
        size: 2 << 30,
        used: Some(460 << 20),
        default_memory_mib: 512,
        sha256: format!("{:0>64}", name.len()),
        origin,
        parent: parent.map(Into::into),
        built: parent.map(|_| UnixMs(100_000_000 - 7_300_000)),
        took_ms: parent.map(|_| 95_000),
        packages_sha256: Some(format!("6b1138{:0>58}", name.len())),
        ..ImageView::default()
    }
}

fn some() -> Fleet {
    let mut web = vm(1, "web", Phase::Running);
    web.spec.image = "dev".into();
    web.made_from = Some("0".repeat(64));
    let mut db = vm(2, "db", Phase::Stopped);
    db.spec.image = "dev".into();
    db.made_from = Some(image("dev", "", None).sha256);
    let mut fleet = fleet(vec![web, db]);
    let diff = PackageDiff { added: vec!["git".into()], removed: vec!["nano".into()] };
    let mut dev = image("dev", "Debian to work in", Some("debian"));
    dev.stale = vec![StaleReason::Packages { diff }, StaleReason::Parent { name: "debian".into() }];
    let mut theirs = image("theirs", "a container image", None);
    theirs.origin = ImageOrigin::Imported;
    fleet.images = vec![
        image("debian", "Debian 12 with systemd and sshd", None),
        dev,
        image("dev-docker", "", Some("dev")),
        theirs,
        image("tiny", "busybox and dropbear", None),
    ];
    fleet
}

macro_rules! look {
    ($name:ident, $columns:literal x $rows:literal, $keys:literal) => {
        #[test]
        fn $name() {
            let mut ui = Ui::new($columns, $rows, some());
            ui.send_keys("3");
            ui.send_keys($keys);
            insta::assert_snapshot!(ui.screen());
        }
    };
}

look!(images_80x24, 80 x 24, "");
look!(images_200x50, 200 x 50, "j");
look!(images_80x24_detail, 80 x 24, "j<enter>");
look!(images_100x40_with_detail, 100 x 40, "j<enter>");
look!(images_80x24_sorted_and_filtered, 80 x 24, "t,b/!origin:bundle<enter>");
look!(rebuild_80x24, 80 x 24, "jb");
look!(import_80x24, 80 x 24, "i");
look!(export_80x24, 80 x 24, "je");

/// The wizard on a new image from `debian`.
fn wizard(columns: u16, rows: u16) -> Ui {
    let mut ui = Ui::new(columns, rows, some());
    ui.app.state.home = Some("/home/me".into());
    let packages = ["ca-certificates", "nano", "vim"].map(Into::into).into();
    *ui.desk.facts.lock().unwrap() = ImageFacts { packages, ..ImageFacts::default() };
    ui.send_keys("3c");
    ui.errand();
    ui.errand();
    ui
}

/// Types lines into an editor.
fn lines(ui: &mut Ui, text: &str) {
    for line in text.lines() {
        ui.event(crate::tui::event::UiEvent::Paste(line.to_owned()));
        ui.send_keys("<enter>");
    }
}

/// Everything filled in, up to the review.
fn filled(columns: u16, rows: u16) -> Ui {
    let mut ui = wizard(columns, rows);
    ui.send_keys("<enter>");
    lines(&mut ui, "git\nvim\n# what nobody wants\nnano-");
    ui.send_keys("<tab> <ctrl-n>");
    lines(&mut ui, "~/.vimrc -> /root/\n/etc/hosts -> /etc/hosts.mine");
    ui.send_keys("<tab>");
    lines(&mut ui, "alice sudo");
    ui.send_keys("<tab><tab>");
    lines(&mut ui, "set -e\necho ok > /etc/ok");
    ui.send_keys("<ctrl-n><tab>To work in<tab>4G<tab>1G");
    *ui.desk.preview.lock().unwrap() = BuildPreview {
        install: vec![PackageChange { name: "git".into(), version: "1:2.39".into() }],
        remove: vec!["nano".into()],
        dependencies: true,
        download_bytes: Some(9 << 20),
        installed_bytes: Some(40 << 20),
    };
    ui.send_keys("<enter>");
    ui
}

#[test]
fn the_wizard_asks_step_by_step() {
    for (columns, rows) in [(80, 24), (200, 50)] {
        let mut ui = wizard(columns, rows);
        let look = |ui: &Ui, step: &str| {
            insta::assert_snapshot!(format!("wizard_{step}_{columns}x{rows}"), ui.screen());
        };
        look(&ui, "base");
        ui.send_keys("<enter>");
        lines(&mut ui, "git\nvim\nnano-");
        look(&ui, "packages");
        ui.send_keys("<ctrl-n>");
        look(&ui, "contents");
        ui.send_keys("<ctrl-n>");
        look(&ui, "name");
    }
}

#[test]
fn the_review_says_what_will_be_done_and_enter_does_it_in_a_pane() {
    let mut ui = filled(80, 24);
    assert!(ui.screen().contains("working out what is fetched"), "{}", ui.screen());
    assert!(ui.app.deadline().is_some(), "something turns");
    ui.errand();
    insta::assert_snapshot!("wizard_review_80x24", ui.screen());
    ui.send_keys("<enter>");
    ui.errand();
    let (words, guest) = ui.ran();
    assert_eq!(words, "images build /state/recipes/debian-dev.toml --yes");
    let recipe = ui.desk.recipes.lock().unwrap().pop().unwrap();
    assert_eq!((recipe.name.as_str(), recipe.base.as_str()), ("debian-dev", "debian"));
    assert_eq!(recipe.presets, [Preset::Docker]);
    assert_eq!(recipe.files[0].from, std::path::Path::new("/home/me/.vimrc"));
    assert!(recipe.users[0].sudo && recipe.script.contains("/etc/ok"));
    assert_eq!((recipe.size_mib, recipe.memory_mib), (Some(4096), Some(1024)));
    // It has the keyboard, as what it asks is to be answered.
    guest.output("Install these? [Y/n] ");
    ui.wait_until("the question", |screen| screen.contains("Install these?"));
    ui.send_keys("y");
    ui.wait_for("the answer", |_| guest.typed() == "y");
    // A shell in it is one key away.
    ui.send_keys("<ctrl-]>i");
    assert_eq!(ui.ran().0, "images shell debian-dev");
    ui.send_keys("<ctrl-]>h");
    assert!(ui.screen().contains("Install these?"), "{}", ui.screen());
    ui.send_keys("q");
    assert!(ui.screen().contains("build debian-dev, shell"), "{}", ui.screen());
    ui.send_keys("<esc>");
    // It is published, and its pane ends: the new image is shown.
    ui.picture(|fleet| fleet.images.push(image("debian-dev", "To work in", Some("debian"))));
    assert_eq!(ui.app.state.screen, Screen::Panes, "it still says something");
    guest.hang_up();
    ui.wait_until("the image", |screen| screen.contains("the image debian-dev is ready"));
    assert_eq!(ui.app.state.screen, Screen::Images);
    assert_eq!(ui.app.state.image.as_deref(), Some("debian-dev"));
    ui.wait_for("the draft is gone", |ui| ui.desk.draft.lock().unwrap().is_none());
    ui.send_keys("n<enter>");
    let CommandBody::Create { spec, .. } = ui.command() else { panic!("{}", ui.screen()) };
    assert_eq!(spec.image, "debian-dev");
}

#[test]
fn a_draft_that_was_begun_during_a_build_stays() {
    let mut ui = filled(80, 24);
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    let (_, guest) = ui.ran();
    let first = ui.desk.draft.lock().unwrap().clone().unwrap();
    // It fails, its pane is closed, and Jobs does it again.
    guest.end_with("exit code 1");
    ui.wait_until("the way back", |screen| screen.contains("3 c changes what is asked for"));
    ui.send_keys("w4r");
    let (words, guest) = ui.ran();
    assert_eq!(words, "images build /state/recipes/debian-dev.toml --yes");
    // Meanwhile another is begun.
    let other = first.replace("debian-dev", "other");
    *ui.desk.draft.lock().unwrap() = Some(other.clone());
    ui.picture(|fleet| fleet.images.push(image("debian-dev", "To work in", Some("debian"))));
    guest.hang_up();
    ui.wait_until("the image", |screen| screen.contains("the image debian-dev is ready"));
    ui.errand();
    assert_eq!(*ui.desk.draft.lock().unwrap(), Some(other));
}

#[test]
fn a_draft_is_built_once_at_a_time() {
    let mut ui = filled(80, 24);
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    let _guest = ui.ran();
    // The draft is kept.
    ui.errand();
    // Built again as it is, it leads to the pane in which it is built.
    ui.send_keys("<ctrl-]>3c");
    ui.errand();
    ui.send_keys("y");
    ui.errand();
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    ui.errand();
    assert_eq!((ui.app.state.screen, ui.app.state.panes.len()), (Screen::Panes, 1));
    // As another it has to wait.
    ui.send_keys("<ctrl-]>3c");
    ui.errand();
    ui.send_keys("y");
    ui.errand();
    ui.errand();
    ui.send_keys("<ctrl-p><tab>!<ctrl-n>");
    ui.send_keys("<enter>");
    assert!(ui.screen().contains("is being built from an earlier draft"), "{}", ui.screen());
    assert_eq!(ui.app.state.panes.len(), 1);
    assert_eq!(ui.desk.recipes.lock().unwrap().len(), 2, "the recipe being built stays");
}

#[test]
fn the_draft_of_what_is_built_again_after_its_pane_was_closed_goes() {
    let mut ui = filled(80, 24);
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    let (_, guest) = ui.ran();
    guest.end_with("exit code 1");
    ui.wait_until("its end", |screen| screen.contains("r runs it again"));
    ui.send_keys("w4r");
    let (_, guest) = ui.ran();
    ui.picture(|fleet| fleet.images.push(image("debian-dev", "To work in", Some("debian"))));
    guest.hang_up();
    ui.wait_until("the image", |screen| screen.contains("the image debian-dev is ready"));
    ui.wait_for("the draft is gone", |ui| ui.desk.draft.lock().unwrap().is_none());
}

#[test]
fn a_draft_survives_esc_and_is_gone_on_with_or_not() {
    let mut ui = wizard(80, 24);
    ui.send_keys("<enter>");
    lines(&mut ui, "git");
    // A crash from here on would find it.
    ui.pass(Duration::from_millis(300));
    ui.errand();
    assert!(ui.desk.draft.lock().unwrap().as_ref().unwrap().contains("git"));
    lines(&mut ui, "vim");
    ui.send_keys("<esc>");
    ui.errand();
    assert!(ui.screen().contains("the draft is kept"), "{}", ui.screen());
    let kept = ui.desk.draft.lock().unwrap().clone().unwrap();
    assert!(kept.contains("vim"), "{kept}");
    ui.send_keys("<esc>jc");
    ui.errand();
    insta::assert_snapshot!("wizard_draft_80x24", ui.screen());
    // It is said as well if it was on the disk before.
    ui.send_keys("y");
    ui.errand();
    lines(&mut ui, "# nothing");
    ui.pass(Duration::from_secs(10));
    ui.errand();
    assert!(!ui.screen().contains("the draft is kept"), "{}", ui.screen());
    let kept = ui.desk.draft.lock().unwrap().clone().unwrap();
    ui.send_keys("<esc>");
    assert!(ui.screen().contains("the draft is kept"), "{}", ui.screen());
    ui.send_keys("<esc>3jc");
    ui.errand();
    // Esc answers nothing.
    ui.send_keys("<esc>c");
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    let screen = ui.screen();
    assert!(screen.contains("git") && screen.contains("Against debian"), "{screen}");
    // A new one takes its place only when something is typed.
    ui.send_keys("<esc>c");
    ui.errand();
    ui.send_keys("n");
    ui.errand();
    ui.send_keys("<esc>");
    assert_eq!(ui.desk.draft.lock().unwrap().as_ref(), Some(&kept));
    // A signal keeps what was typed last.
    ui.send_keys("c");
    ui.errand();
    ui.send_keys("n");
    ui.errand();
    ui.send_keys("<enter>xz");
    ui.event(crate::tui::event::UiEvent::Terminate);
    ui.errand();
    assert!(ui.desk.draft.lock().unwrap().as_ref().unwrap().contains("xz"));
}

#[test]
fn what_is_wrong_is_shown_at_its_line_and_on_the_review() {
    let mut ui = wizard(80, 24);
    ui.send_keys("<ctrl-n>");
    lines(&mut ui, "git\nGIT vim\nok\n-y");
    insta::assert_snapshot!("wizard_wrong_packages_80x24", ui.screen());
    ui.send_keys("<ctrl-n>rel -> x<tab>Alice<ctrl-n><ctrl-u>No Name<ctrl-n>");
    insta::assert_snapshot!("wizard_wrong_review_80x24", ui.screen());
    // Enter leads to the first of them.
    ui.send_keys("<enter>");
    assert!(ui.screen().contains("✗ line 2"), "{}", ui.screen());
    ui.send_keys("<alt-right><alt-right>");
    assert!(ui.screen().contains("cannot be in an image's name"), "{}", ui.screen());
    // Nothing was written for a build.
    assert!(ui.desk.recipes.lock().unwrap().is_empty());
}

#[test]
fn a_recipe_is_changed_and_takes_the_place_of_the_image() {
    let mut ui = Ui::new(80, 24, some());
    let recipe = Recipe {
        name: "dev".into(),
        base: "debian".into(),
        packages: "nano\n".into(),
        ..Recipe::default()
    };
    ui.desk.facts.lock().unwrap().recipe = Some(recipe);
    ui.send_keys("3C");
    assert!(ui.screen().contains("debian was not built from a recipe"), "{}", ui.screen());
    ui.send_keys("<esc>jC");
    for _ in 0..3 {
        ui.errand();
    }
    assert!(ui.screen().contains("The recipe of dev"), "{}", ui.screen());
    lines(&mut ui, "git");
    ui.send_keys("<ctrl-n><ctrl-n>");
    assert!(ui.screen().contains("it takes the place"), "{}", ui.screen());
    ui.send_keys("<ctrl-n>");
    ui.errand();
    ui.send_keys("<enter>");
    ui.errand();
    assert_eq!(ui.ran().0, "images build /state/recipes/dev.toml --yes --replace");
    assert_eq!(ui.desk.recipes.lock().unwrap()[0].packages, "nano\ngit\n");
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let mut ui = filled(80, 24);
    ui.errand();
    let full = Problem::new("cannot build it", "the disk is full", "make room");
    *ui.desk.full.lock().unwrap() = Some(full);
    ui.send_keys("<enter>");
    ui.errand();
    let screen = ui.screen();
    assert!(screen.contains("the disk is full") && screen.contains("make room"), "{screen}");
    *ui.desk.full.lock().unwrap() = None;
    ui.send_keys("<enter>");
    ui.errand();
    assert!(ui.ran().0.starts_with("images build"));
}

#[test]
fn a_build_that_fails_stays_to_be_read_and_is_told_elsewhere() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("3jb<enter>");
    assert!(ui.app.state.panes.is_empty(), "the focus is on Cancel");
    ui.send_keys("by");
    let (words, guest) = ui.ran();
    assert_eq!(words, "images rebuild dev --yes");
    ui.send_keys("<ctrl-]>1");
    guest.hang_up();
    ui.wait_until("its end", |screen| screen.contains("“rebuild dev”: the guest hung up"));
    assert_eq!(ui.app.state.screen, Screen::Machines);
    ui.send_keys("2<esc>");
    assert!(ui.screen().contains("r runs it again"), "{}", ui.screen());
    ui.send_keys("r");
    assert_eq!(ui.ran().0, "images rebuild dev --yes");
    // What the runtime directory has is made by a bootstrap.
    ui.send_keys("<ctrl-]>3kby");
    assert_eq!(ui.command(), CommandBody::Bootstrap);
}

#[test]
fn a_bundled_image_with_a_manifest_of_the_users_is_built_in_a_pane_and_can_be_deleted_again() {
    let mut fleet = some();
    let diff = PackageDiff { added: vec!["git".into()], removed: Vec::new() };
    let debian = &mut fleet.images[0];
    (debian.own_manifest, debian.stale) = (true, vec![StaleReason::Packages { diff }]);
    let mut ui = Ui::new(80, 24, fleet);
    ui.send_keys("3b");
    let screen = ui.screen();
    assert!(
        screen.contains("Stale: packages: +git") && screen.contains("your packages"),
        "{screen}"
    );
    ui.send_keys("y");
    assert_eq!(ui.ran().0, "images rebuild debian --yes");
    // It is there, and a machine of the bundled one is no reason to keep it.
    ui.picture(|fleet| {
        fleet.images[0] = image("debian", "with packages of yours", Some("debian"));
        let mut vm = vm(3, "old", Phase::Stopped);
        (vm.spec.image, vm.made_from) = ("debian".into(), Some("f".repeat(64)));
        fleet.vms.push(vm.into());
    });
    ui.send_keys("<ctrl-]>3<enter>");
    assert!(ui.screen().contains("in the place of the runtime directory's"), "{}", ui.screen());
    ui.send_keys("d");
    let screen = ui.screen();
    assert!(screen.contains("is there again") && !screen.contains("These cannot"), "{screen}");
    ui.send_keys("y");
    assert_eq!(ui.command(), CommandBody::DeleteImage("debian".parse().unwrap()));
}

#[test]
fn verbs_are_run_with_what_was_typed() {
    let mut ui = Ui::new(80, 24, some());
    ui.app.state.home = Some("/home/me".into());
    ui.send_keys("3v");
    assert_eq!(ui.ran().0, "images verify debian");
    ui.send_keys("<ctrl-]>3i disk.qcow2<enter>");
    assert!(ui.screen().contains("begin the path with"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>~/my disk.qcow2<enter>");
    assert_eq!(ui.ran().0, "images import /home/me/my disk.qcow2");
    ui.send_keys("<ctrl-]>");
    assert!(ui.screen().contains(" import my disk.qcow2 "), "{}", ui.screen());
    ui.send_keys("3i/tmp/my disk.qcow2 as My Own<enter>");
    assert!(ui.screen().contains("cannot be in an image's name"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>/tmp/known as/disk.raw<enter>");
    assert_eq!(ui.ran().0, "images import /tmp/known as/disk.raw");
    ui.send_keys("<ctrl-]>3i/tmp/my disk.qcow2 as mine<enter>");
    assert_eq!(ui.ran().0, "images import /tmp/my disk.qcow2 --name mine");
    ui.send_keys("<ctrl-]>3e<enter>");
    assert_eq!(ui.ran().0, "images export debian /home/me/debian.tar.zst");
}

#[test]
fn what_was_imported_is_selected_whatever_it_is_called() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("3i/tmp/disk.qcow2<enter>");
    let (words, guest) = ui.ran();
    assert_eq!(words, "images import /tmp/disk.qcow2");
    ui.picture(|fleet| fleet.images.push(image("zdisk", "Imported", None)));
    guest.hang_up();
    ui.wait_until("the news", |screen| screen.contains("the image zdisk is ready"));
    assert_eq!(ui.app.state.screen, Screen::Images);
    assert_eq!(ui.app.state.image.as_deref(), Some("zdisk"));
}

#[test]
fn images_are_renamed_and_deleted_when_that_was_meant() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("3jjR");
    insta::assert_snapshot!("rename_image_80x24", ui.screen());
    ui.send_keys("<ctrl-u>No<enter>");
    assert!(ui.screen().contains("cannot be in an image's name"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>box<enter>");
    let (old, new) = ("dev-docker".parse().unwrap(), "box".parse().unwrap());
    assert_eq!(ui.command(), CommandBody::RenameImage(old, new));
    assert!(!ui.screen().contains("Rename the image"), "{}", ui.screen());
    ui.send_keys("d<enter>");
    assert!(ui.is_quiet(), "the focus is on Cancel");
    ui.send_keys("dy");
    assert_eq!(ui.command(), CommandBody::DeleteImage("dev-docker".parse().unwrap()));
}

#[test]
fn a_machine_of_an_older_build_is_marked_and_recreated_when_its_name_is_typed() {
    let mut ui = Ui::new(80, 24, some());
    insta::assert_snapshot!("outdated_machine_80x24", ui.screen());
    ui.send_keys("jb");
    assert!(ui.screen().contains("web is running; stop it first with x"), "{}", ui.screen());
    ui.send_keys("<esc><enter>");
    assert!(ui.screen().contains("its image was built again since"), "{}", ui.screen());
    ui.send_keys("<esc>kb");
    insta::assert_snapshot!("recreate_80x24", ui.screen());
    ui.send_keys("y<enter>");
    assert!(ui.is_quiet() && ui.screen().contains("type “db” to go on"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>db<enter>");
    let db = vm(2, "db", Phase::Stopped).id;
    assert_eq!(ui.command(), CommandBody::Recreate(db));
    ui.send_keys("n");
    assert!(ui.screen().contains("New machine"), "{}", ui.screen());
    ui.send_keys("<tab>d");
    assert!(ui.screen().contains("↻ stale"), "{}", ui.screen());
}

#[test]
fn a_build_is_not_ended_by_one_key() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("3jby");
    let (_, guest) = ui.ran();
    ui.send_keys("<ctrl-]>w");
    assert!(ui.screen().contains("End “rebuild dev”?"), "{}", ui.screen());
    ui.send_keys("<enter>");
    assert_eq!(ui.app.state.panes.len(), 1, "the focus is on Cancel");
    ui.send_keys("wy");
    assert!(ui.app.state.panes.is_empty());
    // What only looks is closed at once, and so is what has ended.
    ui.send_keys("3v");
    let (_, looks) = ui.ran();
    ui.send_keys("<ctrl-]>w");
    assert!(ui.app.state.panes.is_empty());
    drop((guest, looks));
}

#[test]
fn a_run_takes_the_place_of_its_like_that_has_ended() {
    let mut ui = Ui::new(80, 24, some());
    for _ in 0..2 {
        ui.send_keys("3v");
        let (_, guest) = ui.ran();
        guest.hang_up();
        ui.wait_until("its end", |screen| screen.contains("r runs it again"));
    }
    assert_eq!(ui.app.state.panes.len(), 1);
}

#[test]
fn ages_of_images_are_not_cut_off() {
    let mut ui = Ui::new(80, 24, some());
    ui.picture(|fleet| fleet.images[1].built = Some(UnixMs(100_000_000 - 689_000)));
    ui.send_keys("3");
    assert!(ui.screen().contains(" 11m ago "), "{}", ui.screen());
}

#[test]
fn wrong_keys_say_why() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("3");
    for (keys, why) in [
        ("d", "debian is part of the runtime directory"),
        ("R", "debian is part of the runtime directory"),
        ("jd", "dev is used by web, db"),
        ("jjb", "theirs was imported"),
        ("x", "x does nothing here"),
    ] {
        ui.send_keys(keys);
        assert!(ui.screen().contains(why), "{keys}: {}", ui.screen());
        ui.send_keys("<esc>");
    }
    ui.picture(|fleet| fleet.images.clear());
    assert!(ui.screen().contains("No images yet"), "{}", ui.screen());
    for keys in ["c", "b", "v", "e", "<enter>", "j", "t"] {
        ui.send_keys(keys);
        ui.send_keys("<esc>3");
    }
    assert!(ui.is_quiet());
}

#[test]
fn it_is_drawn_at_any_size_with_the_mouse_everywhere() {
    use ratatui::{
        crossterm::event::{KeyModifiers, MouseButton, MouseEventKind},
        layout::Position,
    };
    for keys in ["<enter>", "<ctrl-n>", "<ctrl-n><ctrl-n>", "<ctrl-n><ctrl-n><ctrl-n><ctrl-n>"] {
        let mut ui = wizard(80, 24);
        ui.send_keys(keys);
        for (columns, rows) in [(60, 15), (10, 3), (1, 1), (80, 24), (200, 50)] {
            ui.resize(columns, rows);
            for y in 0..rows.min(24) {
                let at = Position::new((7 * y) % columns, y);
                ui.mouse(MouseEventKind::Down(MouseButton::Left), at, KeyModifiers::NONE);
                ui.mouse(MouseEventKind::ScrollDown, at, KeyModifiers::NONE);
            }
        }
    }
    let mut ui = wizard(80, 24);
    ui.click("2 Packages");
    ui.click("Docker-ready");
    assert!(ui.screen().contains("[x] yes"), "{}", ui.screen());
}

#[test]
fn the_detail_ends_where_its_text_does() {
    let mut fleet = some();
    fleet.images[0].about = "some words ".repeat(5_000);
    let mut ui = Ui::new(80, 24, fleet);
    ui.send_keys("3<enter><end>");
    let end = "none; n makes one";
    assert!(ui.screen().contains(end), "{}", ui.screen());
    ui.send_keys("jjjk");
    assert!(!ui.screen().contains(end), "{}", ui.screen());
    ui.send_keys("<end>");
    // With more room there is less to scroll.
    ui.resize(80, 30);
    ui.send_keys("k");
    assert!(!ui.screen().contains(end), "{}", ui.screen());
}

#[test]
fn no_two_previews_run_at_once_and_none_beside_the_build() {
    let mut ui = filled(80, 24);
    ui.errand();
    *ui.desk.slow.lock().unwrap() = true;
    let said = |ui: &Ui| ui.desk.said.lock().unwrap().clone();
    let review_another = |ui: &mut Ui| {
        ui.send_keys("<ctrl-p><ctrl-p>");
        lines(ui, "true");
        ui.send_keys("<ctrl-n><ctrl-n>");
    };
    review_another(&mut ui);
    let mut wanted = vec!["a preview begins"];
    ui.wait_for("the first", |ui| said(ui) == wanted);
    review_another(&mut ui);
    wanted.extend(["it is ended", "a preview begins"]);
    ui.wait_for("the next", |ui| said(ui) == wanted);
    ui.errand();
    assert!(ui.screen().contains("working out what is fetched"), "{}", ui.screen());
    // The recipe is written before the build is begun.
    ui.send_keys("<enter>");
    for _ in 0..2 {
        ui.errand();
    }
    assert_eq!(ui.ran().0, "images build /state/recipes/debian-dev.toml --yes");
    wanted.extend(["it is ended", "a recipe is written"]);
    assert_eq!(said(&ui), wanted);
}

#[test]
fn a_preview_ends_with_the_wizard_and_with_the_ui() {
    for leave in ["<esc>", ""] {
        let mut ui = filled(80, 24);
        ui.errand();
        *ui.desk.slow.lock().unwrap() = true;
        ui.send_keys("<ctrl-p><ctrl-p>");
        lines(&mut ui, "true");
        ui.send_keys("<ctrl-n><ctrl-n>");
        let said = |ui: &Ui| ui.desk.said.lock().unwrap().clone();
        ui.wait_for("the preview", |ui| said(ui) == ["a preview begins"]);
        let desk = std::sync::Arc::clone(&ui.desk);
        if leave.is_empty() {
            drop(ui);
        } else {
            ui.send_keys(leave);
            ui.wait_for("its end", |ui| said(ui).len() == 2);
        }
        assert_eq!(*desk.said.lock().unwrap(), ["a preview begins", "it is ended"]);
    }
}

#[test]
fn no_label_of_the_detail_is_cut() {
    let mut fleet = some();
    fleet.images[0].cloud_init = Some(false);
    let mut ui = Ui::new(200, 50, fleet);
    ui.send_keys("3g");
    ui.send_keys("g");
    assert!(ui.screen().contains("Cloud-init no"), "{}", ui.screen());
}

#[test]
fn the_wizard_says_that_only_the_wanted_packages_of_a_base_are_known() {
    let mut ui = Ui::new(80, 24, some());
    let packages = vec!["openssh-server".into()];
    *ui.desk.facts.lock().unwrap() = ImageFacts { packages, asked_for: true, recipe: None };
    ui.send_keys("3c");
    ui.errand();
    ui.errand();
    assert!(!ui.screen().contains("installed in it"), "{}", ui.screen());
    assert!(ui.screen().contains("openssh-server and what it needs"), "{}", ui.screen());
}
