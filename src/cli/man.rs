//! The manual pages: one for banger and one for each verb, from the definitions of the verbs.

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;
use crate::config::KEYS;

/// What the definitions do not say, after the options and verbs of the first page.
const MORE: &str = include_str!("man/more.roff");

/// All pages: file name and text.
#[must_use]
pub fn pages() -> Vec<(String, String)> {
    let mut banger = Cli::command().disable_help_subcommand(true);
    banger.build();
    let mut pages = Vec::new();
    all(&banger, &mut pages);
    pages
}

fn all(command: &Command, pages: &mut Vec<(String, String)>) {
    let man = Man::new(command.clone()).manual("banger");
    let mut text = Vec::new();
    let rendered =
        if command.get_name() == "banger" { first(&man, &mut text) } else { man.render(&mut text) };
    rendered.expect("memory takes it");
    pages.push((man.get_filename(), String::from_utf8_lossy(&text).into_owned()));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        all(verb, pages);
    }
}

/// As [`Man::render`], with sections of our own.
fn first(man: &Man, text: &mut Vec<u8>) -> std::io::Result<()> {
    let (description, more) = MORE.split_once(".\\\" verbs\n").unwrap_or((MORE, ""));
    let (exit, files) = more.split_once(".\\\" settings\n").unwrap_or((more, ""));
    man.render_title(text)?;
    man.render_name_section(text)?;
    man.render_synopsis_section(text)?;
    text.extend(description.bytes());
    man.render_options_section(text)?;
    man.render_subcommands_section(text)?;
    text.extend(exit.bytes());
    for key in KEYS {
        text.extend(format!(".TP\n.B {}\n{}; {}\n", key.env, key.name, key.default).bytes());
    }
    text.extend(files.bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_verb_that_is_told_and_for_no_other() {
        let pages = pages();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["banger.1", "banger-ls.1", "banger-runtime-install.1", "banger-completions.1"]
        {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("monitor") || name.contains("self")));
        for (name, text) in &pages {
            assert!(text.contains(".TH "), "{name}: {text}");
        }
    }

    #[test]
    fn the_first_page_has_all_sections_in_order() {
        let (name, text) = pages().swap_remove(0);
        assert_eq!(name, "banger.1");
        let sections: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "SUBCOMMANDS",
            "\"EXIT STATUS\"",
            "EXAMPLES",
            "ENVIRONMENT",
            "FILES",
            "\"SEE ALSO\"",
        ];
        assert_eq!(sections, expected);
    }

    #[test]
    fn every_setting_has_its_variable_there() {
        let text = pages().swap_remove(0).1;
        for key in KEYS {
            assert!(text.contains(&format!("\n.B {}\n{}; ", key.env, key.name)), "{}", key.name);
        }
    }
}
