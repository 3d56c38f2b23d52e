//! What the engine's refusals mean. The engine has status codes for few of them; for the rest its words are read
//! here, in this one place.

use super::engine::{Engine, is_unreachable, message, status};
use crate::runtime::{ContainerSpec, Error};
use bollard::errors::Error as DockerError;
use longshore_common::job::Outcome;

/// A container that could not be made.
pub(super) fn create(engine: &Engine, error: &DockerError, spec: &ContainerSpec) -> Error {
    let text = message(error);
    if status(error) == Some(404) {
        return Error::ImageGone(format!("image {} vanished from the node: {text}", spec.image_name));
    }
    if text.contains("No command specified") || text.contains("no command specified") {
        let detail =
            format!("{} names no program, and neither does the job: give a command", spec.image_name);
        return Error::ends(Outcome::InvalidContract, detail);
    }
    if let Some(mistake) = read_process(&text) {
        return mistake;
    }
    if status(error) == Some(400) {
        return Error::ends(Outcome::InvalidContract, format!("the engine refuses the container: {text}"));
    }
    engine.failed("create the container", error)
}

/// What is wrong with user or working directory, whoever named it, the job or the image.
fn read_process(text: &str) -> Option<Error> {
    let said = |part: &str| text.contains(part);
    let detail = if let Some((_, rest)) = text.split_once("annot mkdir: ") {
        let folder = rest.split(" is not a directory").next().unwrap_or(rest);
        format!("the working directory cannot be entered: {folder} is not a folder in the image")
    } else if said("lstat ") && said("/merged/") && said("not a directory") {
        let folder = text.split_once("/merged").map_or(text, |(_, path)| path);
        format!("the working directory cannot be entered: {folder}")
    } else if said("chdir to cwd") {
        format!("the working directory cannot be entered: {text}")
    } else if said("uids and gids must be in range") {
        format!("the user cannot be had: {text}")
    } else if said("unable to find user")
        || said("no matching entries in passwd")
        || said("unable to find group")
    {
        format!("the image has no such user: {text}")
    } else {
        return None;
    };
    Some(Error::ends(Outcome::InvalidContract, detail))
}

/// A container that could not be started.
pub(super) fn start(engine: &Engine, error: &DockerError) -> Error {
    if is_unreachable(error) {
        return engine.failed("start the container", error);
    }
    let text = message(error);
    if let Some(mistake) = read_process(&text) {
        return mistake;
    }
    let (outcome, detail) = read_start(&text);
    Error::ends(outcome, detail)
}

/// Whether the engine's `runc`, `docker-init` or a shell may have said with this code that the program did not begin.
pub(super) const fn may_be_entrypoint(code: i32) -> bool {
    matches!(code, 1 | 126 | 127)
}

/// What `docker-init` wrote when it could not run the program: `[FATAL tini (7)] exec nope failed: No such file…`;
/// or `runc` when it could not run that: `exec /sbin/docker-init: argument list too long`.
pub(super) fn init_complaint(text: &str) -> Option<Error> {
    if text.lines().count() == 1 && text.trim_end().ends_with(": argument list too long") {
        let detail = "command and environment, the image's included, are larger than the kernel takes: put bulky \
                      values into an input";
        return Some(Error::ends(Outcome::InvalidContract, detail));
    }
    let (_, complaint) = text.lines().next()?.split_once("] exec ")?;
    let (program, reason) = complaint.rsplit_once(" failed: ")?;
    let outcome = match reason {
        "No such file or directory" | "Not a directory" => Outcome::EntrypointNotFound,
        "Exec format error" => Outcome::WrongPlatform,
        _ => Outcome::EntrypointNotExecutable,
    };
    Some(Error::ends(outcome, format!("{program}: {reason}")))
}

fn read_start(text: &str) -> (Outcome, String) {
    let said = |part: &str| text.contains(part);
    if said("device driver") && said("gpu") || said("nvidia-container") {
        let hint = "install the NVIDIA container toolkit on the node and restart the engine";
        return (Outcome::RuntimeError, format!("the engine cannot pass GPUs: {hint} ({text})"));
    }
    if said("executable file not found") || said("exec: ") && said("no such file or directory") {
        return (Outcome::EntrypointNotFound, text.to_owned());
    }
    if said("exec format error") {
        return (Outcome::WrongPlatform, text.to_owned());
    }
    if said("exec: ") && (said("permission denied") || said("is a directory")) {
        return (Outcome::EntrypointNotExecutable, text.to_owned());
    }
    (Outcome::RuntimeError, format!("the engine could not start the container: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_failed_is_named_by_its_cause() {
        let cases = [
            (
                "OCI runtime create failed: runc create failed: exec: \"nope\": executable file not found in $PATH",
                Outcome::EntrypointNotFound,
            ),
            ("exec: \"/etc/passwd\": permission denied: unknown", Outcome::EntrypointNotExecutable),
            ("exec /run: exec format error", Outcome::WrongPlatform),
            ("could not select device driver \"nvidia\" with capabilities: [[gpu]]", Outcome::RuntimeError),
            ("no space left on device", Outcome::RuntimeError),
        ];
        for (text, outcome) in &cases {
            assert_eq!(&read_start(text).0, outcome, "{text}");
        }
        assert!(read_start(cases[3].0).1.contains("toolkit"));
    }

    #[test]
    fn a_user_or_working_directory_that_cannot_be_is_the_users_mistake_and_shows_no_path_of_the_host() {
        let cases = [
            ("Cannot mkdir: /bin/sh is not a directory", "/bin/sh is not a folder in the image"),
            (
                "lstat /var/lib/docker/overlay2/49/merged/bin/busybox/x: not a directory",
                ": /bin/busybox/x: not a",
            ),
            ("uids and gids must be in range 0-2147483647", "range 0-2147483647"),
            ("unable to find user anna: no matching entries in passwd file", "anna"),
            ("chdir to cwd (\"/x\") set in config.json failed: permission denied", "/x"),
        ];
        for (text, shown) in cases {
            let Some(Error::Ends { outcome, detail }) = read_process(text) else { panic!("{text}") };
            assert_eq!(outcome, Outcome::InvalidContract, "{text}");
            assert!(detail.contains(shown) && !detail.contains("/var/lib"), "{detail}");
        }
        assert!(read_process("no space left on device").is_none());
    }

    #[test]
    fn what_init_says_is_told_from_what_a_shell_says() {
        let outcome = |text: &str| match init_complaint(text) {
            Some(Error::Ends { outcome, .. }) => Some(outcome),
            _ => None,
        };
        assert_eq!(
            outcome("[FATAL tini (7)] exec nope failed: No such file or directory\n"),
            Some(Outcome::EntrypointNotFound)
        );
        assert_eq!(
            outcome("[FATAL tini (7)] exec /etc failed: Permission denied\n"),
            Some(Outcome::EntrypointNotExecutable)
        );
        assert_eq!(
            outcome("exec /sbin/docker-init: argument list too long\n"),
            Some(Outcome::InvalidContract)
        );
        assert_eq!(outcome("sh: nope: not found\n"), None);
    }
}
