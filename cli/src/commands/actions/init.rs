//! `longshore actions init`: a first action that runs as it is.

use crate::failure::Failure;
use crate::output::say;
use clap::Args;
use longshore_common::job::check_name;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const ACTION: &str = include_str!("starter/action.yaml");
const DOCKERFILE: &str = include_str!("starter/Dockerfile");
const ENTRYPOINT: &str = include_str!("starter/entrypoint.sh");
/// What the starter's name is replaced in.
const NAME: &str = "my-action";

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Made if it is not there; what is in it stays
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// The action's name [default: the folder's]
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<i32> {
    let folder = &args.folder;
    let name = match &args.name {
        Some(name) => {
            check_name("--name", name).map_err(|error| Failure::usage(error.to_string()))?;
            name.clone()
        }
        None => name_of(folder),
    };
    let files = [
        ("action.yaml", ACTION.replace(NAME, &name), 0o644),
        ("Dockerfile", DOCKERFILE.replace(NAME, &name), 0o644),
        ("entrypoint.sh", ENTRYPOINT.to_owned(), 0o755),
    ];
    // All or none: a file of another hand is not to be mixed with these.
    if let Some((file, ..)) = files.iter().find(|(file, ..)| folder.join(file).exists()) {
        let file = folder.join(file);
        return Err(
            Failure::usage(format!("{} is there already; name another folder", file.display())).into()
        );
    }
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    for (file, text, mode) in files {
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(mode).open(folder.join(file));
        made.and_then(|mut made| made.write_all(text.as_bytes())).map_err(failed)?;
    }
    let shown = folder.display();
    say(format!(
        "wrote action.yaml, Dockerfile and entrypoint.sh into {shown}; next:\n  docker build -t {name}:1 {shown}\n  \
         longshore actions apply -f {}\n  longshore run @{name} --set NAME=you --out ./result",
        folder.join("action.yaml").display()
    ));
    Ok(0)
}

/// What of the folder's name can be an action's.
fn name_of(folder: &Path) -> String {
    let full = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let last = full.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let name: String = last.chars().map(|letter| if plain(letter) { letter } else { '-' }).take(40).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { NAME.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{action, job::file};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_starter_is_an_action_that_runs_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("Count Frames!");
        let args = || InitArgs { folder: target.clone(), name: None };
        assert_eq!(run(&args()).expect("written"), 0);
        let text = std::fs::read_to_string(target.join("action.yaml")).expect("written");
        let action =
            file::parse_actions(&text, "action.yaml").unwrap_or_else(|error| panic!("{error}")).remove(0);
        assert_eq!((action.name.as_str(), action.job.image.as_str()), ("count-frames", "count-frames:1"));
        let invocation = action::Invocation {
            action: action.name.parse().expect("a name"),
            set: [("NAME".to_owned(), "you".to_owned())].into(),
            said: Default::default(),
        };
        let said = longshore_common::job::JobSpec::for_image("");
        action::resolve(&action, 1, &invocation, &said).unwrap_or_else(|errors| panic!("{errors}"));
        let mode = std::fs::metadata(target.join("entrypoint.sh")).expect("written").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "it can be run");
        let again = run(&args()).expect_err("nothing is overwritten");
        assert!(again.to_string().contains("is there already"), "{again}");
    }

    #[test]
    fn what_the_starter_runs_is_a_shell_script_that_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("entrypoint.sh");
        let moved = ENTRYPOINT.replace("/out", &folder.path().display().to_string());
        std::fs::write(&script, moved.replace("/in", "/nothing-is-here")).expect("written");
        let ran = std::process::Command::new("sh")
            .arg(&script)
            .envs([("NAME", "Anna"), ("TIMES", "2"), ("STYLE", "loud"), ("LONGSHORE_JOB_ID", "x")])
            .output()
            .expect("sh is there");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success() && said.matches("HELLO, ANNA").count() == 2, "{ran:?}");
        assert!(folder.path().join("report.txt").exists());
    }
}
