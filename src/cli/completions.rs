//! `banger completions SHELL`: scripts for shells, with the names of the user's VMs and images.
//!
//! The scripts are clap's; what is added asks `banger self names`, which reads and starts nothing.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use super::{
    args::{Cli, NameKind},
    exit::{self, Outcome},
    out, setup,
};
use crate::{
    bundle::{Bundle, locate},
    config::{self, Sources},
    host::dirs,
    store::Store,
};

/// Prints a script.
///
/// # Errors
/// If it cannot be written.
pub fn run(shell: Shell) -> Outcome {
    out::text(&script(shell))?;
    Ok(exit::OK)
}

/// The script of a shell.
#[must_use]
pub fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut told(), "banger", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => text + &bash(),
        Shell::Fish => text + &fish(),
        Shell::Zsh => zsh(&text),
        _ => text,
    }
}

/// The definitions without what is hidden: clap's scripts would offer it.
fn told() -> Command {
    let all = Cli::command();
    let verbs: Vec<Command> = visible(&all).cloned().collect();
    Command::new("banger")
        .args(all.get_arguments().cloned())
        .subcommands(verbs)
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
}

/// A verb whose words are names.
struct Named {
    /// The verb, or `images VERB`.
    words: Vec<String>,
    kind: NameKind,
    /// Whether it takes any number of them.
    many: bool,
}

impl Named {
    fn kind(&self) -> &'static str {
        self.kind.word()
    }
}

/// The verbs that take names of what there is, by the definitions: their first word is called
/// `name` or `names`.
fn named() -> Vec<Named> {
    let mut found = Vec::new();
    let banger = Cli::command();
    for verb in visible(&banger) {
        // What `create` takes is a name that is not there yet.
        if verb.get_name() != "create" {
            found.extend(of(verb, &[], NameKind::Vms));
        }
        if verb.get_name() == "images" {
            found.extend(visible(verb).filter_map(|v| of(v, &["images"], NameKind::Images)));
        }
    }
    found
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn of(verb: &Command, above: &[&str], kind: NameKind) -> Option<Named> {
    let first = verb.get_positionals().next()?;
    let many = match first.get_id().as_str() {
        "name" => false,
        "names" => true,
        _ => return None,
    };
    let words = above.iter().copied().chain([verb.get_name()]).map(str::to_owned).collect();
    Some(Named { words, kind, many })
}

fn bash() -> String {
    let mut cases = String::new();
    for named in named() {
        let words = named.words.join(" ");
        let at = named.words.len() + 1;
        let place = if named.many {
            format!("((COMP_CWORD >= {at}))")
        } else {
            format!("((COMP_CWORD == {at}))")
        };
        cases.push_str(&format!("        \"{words} \"*) {place} && kind={} ;;\n", named.kind()));
    }
    format!(
        r#"
# Names of what there is, after what clap knows.
_banger_and_names() {{
    _banger "$@"
    local cur=${{COMP_WORDS[COMP_CWORD]}} kind=
    case "${{COMP_WORDS[*]:1:COMP_CWORD-1}} " in
{cases}    esac
    [[ ${{COMP_WORDS[COMP_CWORD-1]}} == --image ]] && kind=images
    if [[ -n $kind && $cur != -* ]]; then
        COMPREPLY=($(compgen -W "$(banger self names "$kind" 2>/dev/null)" -- "$cur"))
    fi
}}
complete -F _banger_and_names -o bashdefault -o default banger
"#
    )
}

fn fish() -> String {
    let mut text = "\n# Names of what there is.\n".to_owned();
    for named in named() {
        let words: Vec<String> =
            named.words.iter().map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
        text.push_str(&format!(
            "complete -c banger -n \"{}\" -f -a \"(banger self names {} 2>/dev/null)\"\n",
            words.join("; and "),
            named.kind()
        ));
    }
    text.push_str(
        "complete -c banger -n \"__fish_seen_subcommand_from create\" -l image -x \
         -a \"(banger self names images 2>/dev/null)\"\n",
    );
    text
}

/// zsh's script names what completes a word at that word's place.
fn zsh(text: &str) -> String {
    let mut verb = Vec::new();
    let mut changed = String::new();
    let named = named();
    for line in text.lines() {
        // `(start)` opens a verb's part, two levels deep at most here.
        if let Some(word) = line.trim().strip_prefix('(').and_then(|l| l.strip_suffix(')')) {
            verb.retain(|w: &String| w == "images");
            verb.push(word.to_owned());
        }
        let found = named.iter().find(|named| {
            named.words == verb || named.words == verb[verb.len().saturating_sub(1)..]
        });
        let word = line.trim_start();
        let is_name = word.starts_with("':name ") || word.starts_with("'*::names ");
        match found {
            Some(named) if is_name => {
                changed
                    .push_str(&line.replace(":_default'", &format!(":_banger_{}'", named.kind())));
            }
            _ if word.starts_with("'--image=") => {
                changed.push_str(&line.replace(":_default'", ":_banger_images'"));
            }
            _ => changed.push_str(line),
        }
        changed.push('\n');
    }
    let functions = r#"
(( $+functions[_banger_vms] )) || _banger_vms() {
    compadd -- $(banger self names vms 2>/dev/null)
}
(( $+functions[_banger_images] )) || _banger_images() {
    compadd -- $(banger self names images 2>/dev/null)
}
"#;
    // Before the last lines, which call the function.
    match changed.rfind("\nif [ \"$funcstack[1]\"") {
        Some(at) => format!("{}{functions}{}", &changed[..at], &changed[at..]),
        None => changed + functions,
    }
}

/// Prints the names that there are, one a line. Reads only, and fails silently: a shell asks it
/// while its user types.
///
/// # Errors
/// If it cannot be written.
pub fn names(kind: NameKind) -> Outcome {
    let found = match kind {
        NameKind::Vms => vms(),
        NameKind::Images => images(),
    };
    for name in found.unwrap_or_default() {
        out::line(name)?;
    }
    Ok(exit::OK)
}

fn vms() -> Option<Vec<String>> {
    let layout = dirs::resolve(&dirs::Env::current()).ok()?;
    let path = layout.database();
    if !path.exists() {
        return None;
    }
    let vms = Store::open(&path).ok()?.vms().ok()?;
    Some(vms.into_iter().map(|vm| vm.spec.name.to_string()).collect())
}

fn images() -> Option<Vec<String>> {
    let layout = dirs::resolve(&dirs::Env::current()).ok()?;
    let own = std::fs::read_dir(layout.images()).into_iter().flatten().flatten();
    let mut names: Vec<String> = own
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let config = config::load(&Sources::of_this_process().ok()?).ok()?;
    if let Ok(bundle) = locate(&setup::configured(&config)).and_then(|l| Bundle::open(&l.dir)) {
        names.extend(bundle.images().into_iter().map(|image| image.name));
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}
