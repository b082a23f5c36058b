//! `docs/keys.md`, made from the table of actions.

use std::fmt::Write as _;

use super::{
    action::{ALL, Context, Danger},
    keymap::KeyMap,
};
use crate::config::keymap::Overrides;

fn page() -> String {
    let keys = KeyMap::new(&Overrides::default()).expect("the defaults agree");
    let mut out = String::from(
        "# Keys\n\n\
         This page is made from the table of actions in `src/tui/action.rs`; a test fails if it \
         differs.\n`UPDATE_DOCS=1 cargo test --lib tui::docs` writes it again.\n\n\
         Every key can be changed in `keymap.toml`, by the name of the context and of the action:\n\n\
         ```toml\n[machines]\nvm-start = \"S\"\nvm-stop = [\"x\", \"ctrl-x\"]\nvm-kill = []\n```\n\n\
         What takes the keyboard back from a pane is `escape_chord` in `config.toml`.\n",
    );
    for context in Context::ALL {
        let _ = write!(out, "\n## {} (`[{}]`)\n\n", context.title(), context.id());
        out.push_str("| keys | what it does | action |\n|---|---|---|\n");
        for info in ALL.iter().filter(|info| info.contexts.contains(&context)) {
            let keys: Vec<String> = keys
                .all_keys_of(context, info.action)
                .map(|keys| format!("`{}`", keys.to_string().replace('|', "\\|")))
                .collect();
            let danger = match info.danger {
                Danger::None => "",
                Danger::Confirm => " (asks)",
                Danger::TypeName => " (its name has to be typed)",
            };
            let _ = writeln!(
                out,
                "| {} | {}{danger} | `{}` |",
                keys.join(" "),
                info.doc.replace('|', "\\|"),
                info.id
            );
        }
    }
    out
}

#[test]
fn the_page_of_keys_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/keys.md is old: UPDATE_DOCS=1 cargo test --lib tui::docs");
}
