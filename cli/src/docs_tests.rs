//! Every command and snippet of the documentation is one that the program takes.

use crate::commands::Cli;
use clap::Parser as _;
use longshore_agent::AgentConfig;
use longshore_common::{job::file, tree, trigger};
use longshore_controller::ControllerConfig;
use serde::de::DeserializeOwned;
use std::{fs, path::Path};

struct Snippet {
    place: String,
    language: String,
    text: String,
}

#[test]
fn every_command_parses() {
    let mut seen = 0;
    for snippet in snippets("console") {
        for line in snippet.text.lines().filter_map(|line| line.strip_prefix("$ longshore ")) {
            let line = line.split("  #").next().unwrap_or(line);
            let words = std::iter::once("longshore".to_owned()).chain(words(line));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{}: `longshore {line}`: {error}", snippet.place);
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "the guides were found ({seen} commands)");
}

#[test]
fn every_make_target_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    for snippet in snippets("console") {
        for line in snippet.text.lines().filter_map(|line| line.strip_prefix("$ make ")) {
            let target = line.split_whitespace().next().unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", snippet.place);
        }
    }
}

#[test]
fn every_job_file_parses() {
    let all = snippets("yaml");
    assert!(all.len() > 2, "the guides were found");
    for snippet in all {
        if snippet.text.starts_with("kind: trigger") {
            trigger::file::parse(&snippet.text, &snippet.place).unwrap_or_else(|error| panic!("{error}"));
            continue;
        }
        let read = if snippet.text.starts_with("kind: action") {
            file::parse_actions(&snippet.text, &snippet.place).map(drop)
        } else {
            file::parse(&snippet.text, &snippet.place).map(drop)
        };
        if let Err(error) = read {
            panic!("{error}");
        }
    }
}

#[test]
fn every_setting_is_known() {
    let all = snippets("toml");
    assert!(all.len() > 2, "the guides were found");
    for Snippet { place, text, .. } in all {
        let file = text.lines().next().unwrap_or_default();
        if file.ends_with("controller.toml") {
            read_settings::<ControllerConfig>(&place, &text);
        } else if file.ends_with("agent.toml") {
            read_settings::<AgentConfig>(&place, &text);
        } else {
            panic!("{place}: the first line must name the file it belongs to");
        }
    }
}

/// As the program reads them, durations and sizes with units included.
fn read_settings<T: DeserializeOwned>(place: &str, text: &str) {
    let node = tree::toml(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    let (settings, wrong) = tree::read_settings::<T>(&node);
    assert!(settings.is_some() && wrong.is_empty(), "{place}: {wrong}");
}

/// Fenced blocks of a language in the README and the guides.
fn snippets(language: &str) -> Vec<Snippet> {
    let guides = fs::read_dir(root().join("docs")).expect("docs/");
    let guides = guides.map(|entry| entry.expect("a file of docs/").path());
    let pages = guides.chain(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let mut all: Vec<_> =
        pages.filter(|page| page.extension().is_some_and(|e| e == "md")).flat_map(|page| of(&page)).collect();
    all.retain(|snippet| snippet.language == language);
    all
}

fn of(page: &Path) -> Vec<Snippet> {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let (mut found, mut open): (Vec<Snippet>, Option<Snippet>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let place = format!("{}:{}", page.display(), number + 1);
                open = Some(Snippet { place, language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(snippet), None) => {
                snippet.text.push_str(line);
                snippet.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Splits like a shell, as far as the guides go: spaces, and double quotes around them.
fn words(line: &str) -> Vec<String> {
    let pieces = line.split('"').enumerate();
    let mut words = Vec::new();
    for (turn, piece) in pieces {
        if turn % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
