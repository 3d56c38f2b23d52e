//! The small languages inside the flags of `run`.

use crate::failure::Failure;
use longshore_common::job::file::{self, Source};
use longshore_common::job::{AgentRule, GpuRequest, LabelTest, Version};
use longshore_common::units::{ByteSize, HumanDuration, UnitError};
use std::{collections::BTreeMap, fs, path::PathBuf, str::FromStr};

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("write NAME=VALUE, not `{text}`")),
    }
}

/// `2,memory=24GiB,model=A100*,model=!*PCIe*,capability=8.0,nvlink`.
pub(crate) fn gpus(text: &str) -> Result<GpuRequest, String> {
    positive(text)?;
    let mut request = GpuRequest::of(1);
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None if part == "all" => {
                return Err("say how many GPUs the job needs, as in --gpus 1: machines are shared".to_owned());
            }
            None if part == "nvlink" => request.nvlink = true,
            None if part == "shared" => request.shared = true,
            None => request.count = part.parse().map_err(|_| format!("`{part}` is not a number of GPUs"))?,
            Some((key, value)) => gpu_word(&mut request, key, value)?,
        }
    }
    Ok(request)
}

fn gpu_word(request: &mut GpuRequest, key: &str, value: &str) -> Result<(), String> {
    let version = || value.parse::<Version>().map(Some).map_err(|error| error.to_string());
    // `capability>=8.0` and `capability=8.0` are the same.
    match key.strip_suffix('>').unwrap_or(key) {
        "count" => request.count = value.parse().map_err(|_| format!("`{value}` is not a number of GPUs"))?,
        "memory" => {
            request.memory_bytes = ByteSize::from_docker(value).map_err(|error| error.to_string())?.0;
        }
        "model" => request.model.push(value.to_owned()),
        "capability" => request.capability = version()?,
        "driver" => request.driver = version()?,
        "cuda" => request.cuda = version()?,
        "mig" => request.mig = Some(value.to_owned()),
        _ => {
            let known = "count, memory, model, capability, driver, cuda, mig, nvlink and shared are";
            return Err(format!("`{key}` is not known: {known}"));
        }
    }
    Ok(())
}

/// `NAME=VALUE`, `NAME!=VALUE`, `NAME`, `!NAME`, `NAME>N`, `NAME<N`.
pub(crate) fn agent(text: &str) -> Result<AgentRule, String> {
    let whole = |number: &str| {
        number.trim().parse::<i64>().map_err(|_| format!("`{text}`: `{number}` is not a whole number"))
    };
    let (label, test) = if let Some((label, value)) = text.split_once("!=") {
        (label, LabelTest::NotIn(vec![value.to_owned()]))
    } else if let Some((label, value)) = text.split_once('=') {
        (label, LabelTest::In(vec![value.to_owned()]))
    } else if let Some((label, number)) = text.split_once('>') {
        (label, LabelTest::Gt(whole(number)?))
    } else if let Some((label, number)) = text.split_once('<') {
        (label, LabelTest::Lt(whole(number)?))
    } else if let Some(label) = text.strip_prefix('!') {
        (label, LabelTest::DoesNotExist)
    } else {
        (text, LabelTest::Exists)
    };
    if label.is_empty() {
        return Err(format!("write NAME=VALUE, not `{text}`"));
    }
    Ok(AgentRule::new(label, test))
}

/// A time, or a bare number of seconds as Docker's `--stop-timeout` takes.
pub(crate) fn seconds(text: &str) -> Result<HumanDuration, String> {
    let text = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
    text.parse().map_err(|error: UnitError| error.to_string())
}

/// A number of things.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    whole(text)
}

pub(crate) fn long_count(text: &str) -> Result<u64, String> {
    whole(text)
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    positive(text)?;
    text.parse().map_err(|_| format!("`{text}` is not a whole number in range"))
}

fn positive(text: &str) -> Result<(), String> {
    if text.starts_with('-') { Err(format!("`{text}` must be positive")) } else { Ok(()) }
}

/// `DIR`, `job:ID/path`, `share:NAME/path[:rw]` or `https://…`; a folder is there.
pub(crate) fn source(text: &str) -> Result<Source, Failure> {
    let source = file::source(text).map_err(|message| Failure::usage(format!("--input: {message}")))?;
    match &source {
        Source::Folder(path) => match fs::metadata(path) {
            Ok(_) => Ok(source),
            Err(error) => Err(Failure::usage(format!("--input: `{text}` cannot be read: {error}"))),
        },
        Source::Ready(_) => Ok(source),
    }
}

/// An input's name out of a folder's.
pub(crate) fn input_name(folder: &str) -> String {
    let last = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let fit: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect();
    let fit = fit.trim_start_matches(['.', '-', '_']);
    if fit.is_empty() { "data".to_owned() } else { fit.to_owned() }
}

/// The files' variables, then those of the flags.
pub(crate) fn environment(
    files: &[PathBuf],
    flags: &[String],
    shell: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut environment = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("--env-file {}: {error}", file.display())))?;
        for line in
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            add(&mut environment, line, shell);
        }
    }
    for flag in flags {
        add(&mut environment, flag, shell);
    }
    Ok(environment)
}

/// A name alone is copied; one that is not set is left out, as Docker does.
fn add(to: &mut BTreeMap<String, String>, text: &str, shell: &dyn Fn(&str) -> Option<String>) {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, shell(text)),
    };
    match value {
        Some(value) => drop(to.insert(name.to_owned(), value)),
        None => crate::output::say(format!("-e {name}: is not set here and is left out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::{Input, ShareInput};

    #[test]
    fn gpus_are_a_number_and_what_each_must_have() {
        let asked =
            gpus("2,memory=24GiB,model=A100*,model=!*PCIe*,capability>=8.0,driver=535,cuda=12.2,nvlink");
        let expected = GpuRequest {
            memory_bytes: 24 << 30,
            model: vec!["A100*".into(), "!*PCIe*".into()],
            capability: "8.0".parse().ok(),
            driver: "535".parse().ok(),
            cuda: "12.2".parse().ok(),
            nvlink: true,
            ..GpuRequest::of(2)
        };
        assert_eq!(asked, Ok(expected));
        assert_eq!(gpus("memory=8g").map(|gpu| (gpu.count, gpu.memory_bytes)), Ok((1, 8 << 30)));
        assert_eq!(gpus("mig=1g.10gb").map(|gpu| gpu.mig), Ok(Some("1g.10gb".into())));
        assert_eq!(gpus("1,shared,memory=8g").map(|gpu| gpu.shared), Ok(true));
        for bad in ["all", "x", "1,vram=2", "1,memory=2", "1,cuda=new", "nvlink=yes"] {
            assert!(gpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn agents_are_chosen_by_six_tests() {
        for text in ["site=bern", "site!=bern", "ssd", "!ssd", "rack>3", "rack<-1"] {
            assert_eq!(agent(text).map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
        for bad in ["=x", "", "!", "rack>many"] {
            assert!(agent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn inputs_come_from_four_places() {
        let job = Input::Job { job: "k3m9q2xw".into(), path: "ckpt/last".into() };
        assert_eq!(source("job:k3m9q2xw/ckpt/last"), Ok(Source::Ready(job)));
        assert!(matches!(source("https://example.org/x"), Ok(Source::Ready(Input::Url { .. }))));
        assert_eq!(source("/tmp"), Ok(Source::Folder("/tmp".into())));
        for (text, path, writable) in
            [("share:data", "", false), ("share:data/a/b", "a/b", false), ("share:data/a:rw", "a", true)]
        {
            let share = ShareInput { share: "data".into(), path: path.into(), writable };
            assert_eq!(source(text), Ok(Source::Ready(Input::Share(share))));
        }
        for (bad, says) in [("s3://x/y", "not available"), ("/no/such/place", "cannot be read")] {
            let failure = source(bad).expect_err(bad);
            assert!(failure.code == Some(2) && failure.message.contains(says), "{failure}");
        }
    }

    #[test]
    fn a_folder_gives_a_name_that_is_valid() {
        for (folder, name) in
            [("./My Data/", "my-data"), ("/", "data"), (".hidden", "hidden"), ("a/b.c", "b.c")]
        {
            assert_eq!(input_name(folder), name);
            assert!(longshore_common::job::check_name("x", &input_name(folder)).is_ok());
        }
    }

    #[test]
    fn flags_win_over_files_and_bare_names_are_copied() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), "# comment\nA=file\nB=file\n\nHOME\n").expect("written");
        let shell = |name: &str| (name == "HOME").then(|| "/home/anna".to_owned());
        let flags = ["B=flag".to_owned(), "MISSING".to_owned(), "C=a=b".to_owned()];
        let environment = environment(&[file.path().into()], &flags, &shell).expect("readable");
        let expected = [("A", "file"), ("B", "flag"), ("C", "a=b"), ("HOME", "/home/anna")];
        assert_eq!(environment, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }

    #[test]
    fn a_bare_stop_timeout_is_seconds() {
        assert_eq!(seconds("30").map(|length| length.0.as_secs()), Ok(30));
        assert_eq!(seconds("1m").map(|length| length.0.as_secs()), Ok(60));
        assert!(seconds("").is_err());
    }
}
