//! What the main process of a job may be called with: name, folder, user, words and environment.

use super::{FieldError, FieldErrors, JobSpec};

/// Linux takes no longer word and no longer `NAME=value` (`MAX_ARG_STRLEN`, less its end). All of them together may be
/// 2 MiB; a spec is not larger than half of that.
const LONGEST_WORD: usize = 128 * 1024 - 1;
/// The engine takes no higher user or group.
const HIGHEST_ID: u64 = 2_147_483_647;

pub(super) fn check(spec: &JobSpec, errors: &mut FieldErrors) {
    if let Some(name) = &spec.name {
        let fits = (1..=128).contains(&name.len())
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !fits {
            errors.push("name", format!("`{name}`: a job's name is 1 to 128 letters, digits, `_`, `.`, `-`"));
        }
    }
    if spec.workdir.as_ref().is_some_and(|folder| !folder.starts_with('/') || folder.contains('\0')) {
        errors.push("workdir", "is not an absolute path");
    }
    if let Some(user) = &spec.user {
        errors.take(check_user(user));
    }
    for (path, words) in [("entrypoint", &spec.entrypoint), ("command", &spec.command)] {
        for (index, word) in words.iter().flatten().enumerate() {
            if let Some(problem) = problem(word, word.len()) {
                errors.push(format!("{path}[{index}]"), problem);
            }
        }
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            errors.push(format!("env.{name}"), "a variable's name is not empty and has no `=`");
        } else if let Some(problem) = problem(value, name.len() + 1 + value.len()) {
            errors.push(format!("env.{}", shown(name)), problem);
        }
    }
}

fn problem(text: &str, length: usize) -> Option<&'static str> {
    if text.contains('\0') {
        Some("has a NUL character")
    } else if length > LONGEST_WORD {
        Some("is 128 KiB or longer, which Linux does not take: put it into an input")
    } else {
        None
    }
}

/// A long name fills no screen.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// `uid`, `uid:gid`, names for either.
fn check_user(user: &str) -> Result<(), FieldError> {
    let wrong = |problem: String| Err(FieldError::new("user", problem));
    if user.is_empty() || !user.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("is not `uid`, `uid:gid` or a user's name".to_owned());
    }
    for part in user.splitn(2, ':') {
        let digits = part.strip_prefix('-').unwrap_or(part);
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if number && !part.parse::<u64>().is_ok_and(|id| id <= HIGHEST_ID) {
            return wrong(format!(
                "`{part}` is not between 0 and {HIGHEST_ID}, as ids of users and groups are"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(change: impl FnOnce(&mut JobSpec)) -> Vec<String> {
        let mut spec = JobSpec::for_image("alpine:3");
        change(&mut spec);
        let mut errors = FieldErrors::new();
        check(&spec, &mut errors);
        errors.into_result(()).err().into_iter().flatten().map(|error| error.path).collect()
    }

    #[test]
    fn a_user_out_of_range_is_refused_and_a_name_is_not() {
        let with = |user: &str| paths(|spec| spec.user = Some(user.to_owned()));
        for good in ["0", "1000:1000", "2147483647", "anna", "anna:users", "1000:users", "s3cr"] {
            assert_eq!(with(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "2147483648", "4294967295", "-1", "1:99999999999", "0:-1", "a b"] {
            assert_eq!(with(bad), ["user"], "{bad}");
        }
    }

    #[test]
    fn a_word_or_variable_that_the_kernel_does_not_take_is_refused() {
        let long = |length: usize| Some(vec!["sh".to_owned(), "x".repeat(length)]);
        assert_eq!(paths(|spec| spec.command = long(LONGEST_WORD)), Vec::<String>::new());
        assert_eq!(paths(|spec| spec.command = long(LONGEST_WORD + 1)), ["command[1]"]);
        assert_eq!(paths(|spec| spec.entrypoint = long(LONGEST_WORD + 1)), ["entrypoint[1]"]);
        let env = |length| paths(|spec| drop(spec.env.insert("A".into(), "x".repeat(length))));
        assert_eq!(env(LONGEST_WORD - 2), Vec::<String>::new());
        assert_eq!(env(LONGEST_WORD - 1), ["env.A"]);
    }
}
