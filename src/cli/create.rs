//! `banger create`.

use super::{
    args::Create,
    client::{Client, Task, Until},
    exit::{self, Failure, Outcome},
    find, machines, out,
    setup::Setup,
};
use std::path::PathBuf;

use crate::config::NewVm;
use crate::domain::{
    BundleView, CommandBody, Extras, Field, FieldProblem, Fleet, ImageView, Problem, VmDraft,
    VmSpec,
};
use crate::supervisor::extras::Given;

/// Makes a VM.
///
/// # Errors
/// Values that are not accepted, all of them; a VM that cannot be made or started.
pub fn run(create: &Create, client: &mut Client, setup: &Setup) -> Outcome {
    if create.wait.wait.is_some() && !create.start {
        return Err(Failure::Usage(Problem::new(
            "--wait needs --start",
            "a VM that is off never answers",
            format!("banger create {} --start --wait", create.name),
        )));
    }
    // Which images there are is known when the runtime directory has been looked at.
    client.wait(|fleet| fleet.host.bundle != BundleView::Unknown)?;
    let fleet = client.loaded()?;
    let spec = spec(create, &fleet, &setup.config.new_vm)?;
    let wait = machines::wait(create.wait, setup);
    let task = Task {
        name: spec.name.to_string(),
        body: CommandBody::Create { spec, start: create.start },
        done: if create.start { "created and started" } else { "created" },
        until: if create.start { machines::until(wait.as_ref()) } else { Until::Over },
        wait,
    };
    let all_well = machines::carry_out(client, vec![task])?;
    if all_well && !create.start {
        out::progress(&format!("`banger start {}` starts it", create.name));
    }
    Ok(if all_well { exit::OK } else { exit::FAILED })
}

/// The spec, with defaults from the configuration, then from the image.
fn spec(create: &Create, fleet: &Fleet, defaults: &NewVm) -> Result<VmSpec, Failure> {
    if let BundleView::Missing { problem } = &fleet.host.bundle {
        return Err(problem.clone().into());
    }
    let name = create
        .image
        .clone()
        .or_else(|| defaults.image.clone())
        .or_else(|| fleet.images.first().map(|image| image.name.clone()))
        .unwrap_or_default();
    let image = fleet.images.iter().find(|image| image.name == name);
    let draft = VmDraft {
        name: create.name.clone(),
        image: name,
        vcpus: create.vcpus.clone().unwrap_or_else(|| defaults.vcpus.to_string()),
        memory: create.memory.clone().unwrap_or_else(|| default_memory(defaults, image)),
        disk: create.disk.clone().unwrap_or_default(),
        restore: create.restore_at_login,
        vmm: create.vmm.clone().unwrap_or_default(),
        network: create.network.clone().unwrap_or_default(),
        overlay: create.overlay.clone().unwrap_or_default(),
        ..VmDraft::default()
    };
    let (mut spec, mut problems) = match draft.validate() {
        Ok(spec) => (Some(spec), Vec::new()),
        Err(problems) => (None, problems),
    };
    // Here files are named as in any program; their content is looked at at once.
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let extras = Extras {
        keys: create.key.iter().map(whole).collect(),
        user_data: create.user_data.as_ref().map(whole),
    };
    problems.extend(Given::read(&extras).err().into_iter().flatten());
    if extras.user_data.is_some() && !problems.iter().any(|p| p.field == Field::UserData) {
        match image.map(|image| (image.refuses_user_data(), image.cloud_init)) {
            Some((Some(message), _)) => {
                problems.push(FieldProblem { field: Field::UserData, message });
            }
            Some((None, None)) => out::note(&format!(
                "whether {} has cloud-init is not known; without it, the user data is not read",
                draft.image
            )),
            _ => {}
        }
    }
    if let Some(spec) = &mut spec {
        *spec.extras = extras;
    }
    let has = |problems: &[FieldProblem], field| problems.iter().any(|p| p.field == field);
    if image.is_none() && !has(&problems, Field::Image) {
        problems.push(FieldProblem {
            field: Field::Image,
            message: no_image(&draft.image, &fleet.images),
        });
    }
    if let Some(vm) = fleet.vms.iter().find(|vm| vm.spec.name.as_str() == draft.name.trim()) {
        let message = format!("there is a VM {} already: it is {}", draft.name, vm.phase.word());
        problems.push(FieldProblem { field: Field::Name, message });
    }
    if let (Some(image), Some(mib)) = (image, disk_mib(&draft)) {
        // The image's file system is in use up to its end.
        if mib << 20 < image.size && !has(&problems, Field::Disk) {
            let least = image.size.div_ceil(1 << 20);
            let message = format!("the image {} needs at least {least} MiB", image.name);
            problems.push(FieldProblem { field: Field::Disk, message });
        }
    }
    problems.sort_by_key(|problem| problem.field as u8);
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ => Err(Failure::Fields(problems)),
    }
}

fn disk_mib(draft: &VmDraft) -> Option<u64> {
    crate::domain::parse_mib(&draft.disk).ok().filter(|mib| VmSpec::DISK_MIB.contains(mib))
}

fn default_memory(defaults: &NewVm, image: Option<&ImageView>) -> String {
    // Without an image there is a problem to tell already; this one must not hide it.
    let mib = defaults.memory_mib.or_else(|| image.map(|image| image.default_memory_mib));
    mib.unwrap_or(*VmSpec::MEMORY_MIB.start()).to_string()
}

fn no_image(name: &str, images: &[ImageView]) -> String {
    let name: String = name.chars().take(40).collect();
    let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    match find::nearest(&name, names.iter().copied()) {
        Some(near) => format!("there is no image “{name}”: did you mean {near}?"),
        None if names.is_empty() => {
            "there are no images: run `banger runtime bootstrap`".to_owned()
        }
        None => format!("there is no image “{name}”: there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{
            args::Wait,
            testing::{fleet, vm},
        },
        domain::{NetworkKind, VmmKind},
    };

    fn create(name: &str) -> Create {
        Create {
            name: name.into(),
            image: None,
            vcpus: None,
            memory: None,
            disk: None,
            vmm: None,
            network: None,
            overlay: None,
            key: Vec::new(),
            user_data: None,
            restore_at_login: false,
            start: false,
            wait: Wait::default(),
        }
    }

    fn with_images() -> Fleet {
        let mut fleet = fleet([vm("web")]);
        for (name, memory) in [("debian", 512), ("tiny", 128)] {
            fleet.images.push(ImageView {
                name: name.into(),
                about: String::new(),
                size: 64 << 20,
                default_memory_mib: memory,
                ..ImageView::default()
            });
        }
        fleet
    }

    fn problems(create: &Create, fleet: &Fleet) -> Vec<String> {
        match spec(create, fleet, &NewVm::default()) {
            Err(Failure::Fields(fields)) => {
                fields.iter().map(|f| format!("{}: {}", f.field.word(), f.message)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_come_from_the_configuration_then_from_the_image() {
        let fleet = with_images();
        let plain = spec(&create("db"), &fleet, &NewVm::default()).unwrap();
        assert_eq!((plain.image.as_str(), plain.vcpus, plain.memory_mib), ("debian", 1, 512));
        let defaults = NewVm { image: Some("tiny".into()), vcpus: 2, memory_mib: None };
        let configured = spec(&create("db"), &fleet, &defaults).unwrap();
        assert_eq!((configured.image.as_str(), configured.memory_mib), ("tiny", 128));
        let mut typed = create("db");
        typed.memory = Some("1G".into());
        assert_eq!(spec(&typed, &fleet, &defaults).unwrap().memory_mib, 1024);
    }

    #[test]
    fn all_problems_are_told_at_once_in_the_order_of_the_fields() {
        let mut bad = create("web");
        bad.image = Some("debain".into());
        bad.vcpus = Some("0".into());
        bad.memory = Some("10TiB".into());
        bad.disk = Some("1".into());
        bad.vmm = Some("xen".into());
        bad.network = Some("bridge".into());
        bad.overlay = Some("zfs".into());
        bad.key = vec!["/nonexistent.pub".into()];
        bad.user_data = Some("/nonexistent".into());
        let told = problems(&bad, &with_images());
        let fields: Vec<_> = told.iter().map(|t| t.split(':').next().unwrap()).collect();
        let first = ["name", "image", "vcpus", "memory", "disk", "vmm", "network", "overlay"];
        assert_eq!(fields, [&first[..], &["key", "user-data"]].concat());
        assert!(told[1].ends_with("did you mean debian?"), "{told:?}");
        assert_eq!(told[6], "network: “bridge”: it is auto, tap or user");
    }

    #[test]
    fn what_the_user_insists_on_goes_with_the_vm() {
        let mut typed = create("db");
        typed.vmm = Some("qemu-tcg".into());
        typed.network = Some("user".into());
        typed.overlay = Some("auto".into());
        let wishes = spec(&typed, &with_images(), &NewVm::default()).unwrap().wishes;
        assert_eq!((wishes.vmm, wishes.network), (Some(VmmKind::QemuTcg), Some(NetworkKind::User)));
        assert_eq!(wishes.overlay, None);
    }

    #[test]
    fn a_disk_smaller_than_its_image_is_refused() {
        let mut small = create("db");
        small.disk = Some("32M".into());
        assert_eq!(
            problems(&small, &with_images()),
            ["disk: the image debian needs at least 64 MiB"]
        );
        small.disk = Some("64M".into());
        assert!(spec(&small, &with_images(), &NewVm::default()).is_ok());
    }

    #[test]
    fn without_a_runtime_directory_that_is_what_is_told() {
        let mut fleet = fleet([]);
        let problem = Problem::new("there is no runtime directory", "…", "make one");
        fleet.host.bundle = BundleView::Missing { problem: problem.clone() };
        match spec(&create("-"), &fleet, &NewVm::default()) {
            Err(Failure::Problem(told)) => assert_eq!(told, problem),
            other => panic!("{other:?}"),
        }
    }
}
