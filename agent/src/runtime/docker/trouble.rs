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
        let detail = format!("image {} vanished from the node: {text}", spec.image_name);
        return Error::ends(Outcome::RuntimeError, detail);
    }
    if text.contains("No command specified") || text.contains("no command specified") {
        let detail =
            format!("{} names no program, and neither does the job: give a command", spec.image_name);
        return Error::ends(Outcome::InvalidContract, detail);
    }
    if status(error) == Some(400) {
        return Error::ends(Outcome::InvalidContract, format!("the engine refuses the container: {text}"));
    }
    engine.failed("create the container", error)
}

/// A container that could not be started.
pub(super) fn start(engine: &Engine, error: &DockerError) -> Error {
    if is_unreachable(error) {
        return engine.failed("start the container", error);
    }
    let (outcome, detail) = read_start(&message(error));
    Error::ends(outcome, detail)
}

/// Whether `docker-init` or a shell may have said with this code that there is no such program.
pub(super) const fn may_be_entrypoint(code: i32) -> bool {
    matches!(code, 126 | 127)
}

/// What `docker-init` wrote when it could not run the program: `[FATAL tini (7)] exec nope failed: No such file…`.
pub(super) fn init_complaint(text: &str) -> Option<Error> {
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
    if said("unable to find user") || said("no matching entries in passwd") || said("unable to find group") {
        return (Outcome::InvalidContract, format!("the image has no such user: {text}"));
    }
    if said("chdir to cwd") {
        return (Outcome::InvalidContract, format!("the working directory cannot be entered: {text}"));
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
            ("unable to find user anna: no matching entries in passwd file", Outcome::InvalidContract),
            ("no space left on device", Outcome::RuntimeError),
        ];
        for (text, outcome) in &cases {
            assert_eq!(&read_start(text).0, outcome, "{text}");
        }
        assert!(read_start(cases[3].0).1.contains("toolkit"));
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
        assert_eq!(outcome("sh: nope: not found\n"), None);
    }
}
