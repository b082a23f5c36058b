//! Completions, by the shell they are for.

mod cli_kit;

use std::{os::unix::fs::symlink, process::Command};

use cli_kit::{BANGER, Home, Ran, skip};

/// What bash would offer at the end of a line.
fn bash(home: &Home, line: &str) -> Vec<String> {
    let bin = home.path().join("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).expect("it can be had");
        symlink(BANGER, bin.join("banger")).expect("it can be had");
    }
    let script = r#"
        source <(banger completions bash)
        read -ra COMP_WORDS <<<"$1"
        [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        complete -p banger | grep -q _banger_and_names || exit 3
        _banger_and_names banger "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", line]).env_clear();
    let banger = home.command(&[]);
    bash.envs(banger.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bash.env(
        "PATH",
        format!("{}:{}", bin.display(), std::env::var("PATH").expect("it can be had")),
    );
    let ran = Ran::new(&["completions", "bash", line], &bash.output().expect("it can be had"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran}");
    ran.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_and_names() {
    let home = Home::with_fake_runtime();
    assert_eq!(bash(&home, "banger rest"), ["restart"]);
    assert_eq!(bash(&home, "banger mon"), [""; 0], "hidden");
    assert!(bash(&home, "banger create web --").contains(&"--vcpus".to_owned()));
    assert_eq!(bash(&home, "banger create web --image t"), ["tiny"]);
    let none: [&str; 0] = [];
    assert_eq!(bash(&home, "banger stop w"), none, "no database yet");
    for name in ["web", "db"] {
        home.ok(&["create", name]);
    }
    assert_eq!(bash(&home, "banger stop "), ["db", "web"]);
    assert_eq!(bash(&home, "banger stop web d"), ["db"]);
    assert_eq!(bash(&home, "banger ssh w"), ["web"]);
    assert_eq!(bash(&home, "banger create w"), none, "that name is taken");
    assert_ne!(bash(&home, "banger ssh web d"), ["db"], "a command of the guest's");
    assert!(bash(&home, "banger stop --").contains(&"--help".to_owned()));
}

/// zsh and fish, where they are: that they can read theirs.
#[test]
fn other_shells_can_read_their_scripts() {
    let home = Home::new();
    for (shell, names) in [("zsh", "_banger_vms'"), ("fish", "(banger self names vms")] {
        let script = home.ok(&["completions", shell]);
        assert!(script.contains(names), "{script}");
        assert!(!script.contains("monitor") && !script.contains("host-helper"), "{script}");
        let path = home.path().join(shell);
        std::fs::write(&path, script).expect("it can be had");
        match Command::new(shell).arg("-n").arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => skip(&format!("there is no {shell} here")),
        }
    }
}
