//! One call to a minter: a program of the operator's, or an HTTP address. Says one JSON document, reads one. Must never
//! put what it reads into an error.

use crate::secrets::SecretText;
use longshore_common::tasks;
use reqwest::{Client, StatusCode, header, redirect};
use serde::{Deserialize, Serialize};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};
use url::Url;
use zeroize::Zeroizing;

/// What a minter may answer, and what of its complaint is read.
const ANSWER: u64 = 64 << 10;
const COMPLAINT: usize = 300;
/// A shorter one could not be told from other text where it is masked.
const SHORTEST_KEY: usize = 16;
const LONGEST_KEY: usize = 4 << 10;
/// The agent waits half a minute for its secrets.
const MOST_TIME: Duration = Duration::from_secs(25);

/// One minter of the controller's configuration: a program or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A program and its arguments; no shell is in between.
    pub command: Vec<String>,
    /// An address that takes POST.
    pub url: Option<Url>,
    /// The header `Authorization` of calls to `url`.
    pub authorization: Option<SecretText>,
    /// A call that takes longer has failed; 25 s at most.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            url: None,
            authorization: None,
            // Longer than any sound API, shorter than the agent waits.
            timeout: Duration::from_secs(15),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Minter {
    way: Way,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Way {
    Command(Vec<String>),
    Url { client: Client, url: Url, authorization: Option<SecretText> },
}

/// What went wrong, for people. What the minter complained may hold anything: it is for the controller's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) what: String,
    pub(super) complaint: String,
    /// It may do yet what it was asked: nobody heard that it had ended.
    pub(super) silent: bool,
}

impl Failed {
    fn silent(what: String) -> Self {
        Self { silent: true, ..what.into() }
    }
}

impl From<String> for Failed {
    fn from(what: String) -> Self {
        Self { what, complaint: String::new(), silent: false }
    }
}

impl From<&str> for Failed {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

/// What is asked: `mint`, or `revoke` with the key as far as it is known.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a, T> {
    pub(super) action: &'static str,
    #[serde(flatten)]
    pub(super) told: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    key: String,
}

impl Minter {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        if config.timeout.is_zero() || config.timeout > MOST_TIME {
            return Err(format!("timeout is not between 1s and {}s", MOST_TIME.as_secs()));
        }
        let way = match (config.command.as_slice(), &config.url) {
            ([], None) => return Err("names neither a command nor a url".to_owned()),
            ([_, ..], Some(_)) => {
                return Err("names a command and a url: only one of them is asked".to_owned());
            }
            (command @ [program, ..], None) => {
                if program.is_empty() {
                    return Err("command[0] is empty".to_owned());
                }
                if config.authorization.is_some() {
                    return Err("authorization goes with url".to_owned());
                }
                Way::Command(command.to_vec())
            }
            ([], Some(url)) => {
                if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                    return Err("url does not begin with https:// or http://".to_owned());
                }
                if !url.username().is_empty() || url.password().is_some() {
                    return Err("url holds a login: use authorization".to_owned());
                }
                let client =
                    Client::builder().timeout(config.timeout).redirect(redirect::Policy::none()).build();
                let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
                Way::Url { client, url: url.clone(), authorization: config.authorization.clone() }
            }
        };
        Ok(Self { way, timeout: config.timeout })
    }

    pub(super) async fn mint<T: Serialize>(&self, told: &T) -> Result<Zeroizing<String>, Failed> {
        let answer = self.ask(&Call { action: "mint", told, key: None }).await?;
        let answer = answer.ok_or("knows of no such route")?;
        // What it said is not repeated: the key may be in it.
        let read = serde_json::from_slice::<Answer>(&answer);
        let key = Zeroizing::new(read.map_err(|_| "did not answer {\"key\": \"…\"}")?.key);
        if key.len() < SHORTEST_KEY {
            return Err(format!(
                "answered with a key of less than {SHORTEST_KEY} bytes, which no log could mask"
            )
            .into());
        }
        let fits = key.len() <= LONGEST_KEY && !key.chars().any(char::is_control);
        if fits { Ok(key) } else { Err("answered with a key that no variable can hold".into()) }
    }

    /// A key that is not there is taken back.
    pub(super) async fn revoke<T: Serialize>(&self, told: &T, key: Option<&str>) -> Result<(), Failed> {
        self.ask(&Call { action: "revoke", told, key }).await.map(drop)
    }

    /// `None`: what it is about is not there.
    async fn ask<T: Serialize>(&self, call: &Call<'_, T>) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
        let body = Zeroizing::new(serde_json::to_vec(call).expect("plain data with text keys"));
        let asked = async {
            match &self.way {
                Way::Command(command) => run(command, body).await.map(Some),
                Way::Url { client, url, authorization } => {
                    post(client, url, authorization.as_ref(), body).await
                }
            }
        };
        let answer = tokio::time::timeout(self.timeout, asked).await;
        let late = || Failed::silent(format!("did not answer within {} s", self.timeout.as_secs_f64()));
        answer.map_err(|_| late())?
    }
}

async fn run(command: &[String], body: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The controller's own secrets are none of its business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGSHORE_") {
            child.env_remove(name);
        }
    }
    let child = child.kill_on_drop(true).spawn();
    let mut child = child.map_err(|error| Failed::silent(format!("cannot be run: {error}")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut stdin, stdout, stderr) =
        (stdin.expect("it is piped"), stdout.expect("it is piped"), stderr.expect("it is piped"));
    // One that reads nothing must not keep its answer back.
    let told = tasks::spawn("minter.stdin", async move {
        drop(stdin.write_all(&body).await);
        drop(stdin.shutdown().await);
    });
    let (mut answer, mut complaint) = (Zeroizing::new(Vec::new()), Vec::new());
    let (mut out, mut err) = (stdout.take(ANSWER), stderr.take(ANSWER));
    let read = tokio::join!(out.read_to_end(&mut answer), err.read_to_end(&mut complaint));
    let ended = child.wait().await;
    told.abort();
    let status = ended.map_err(|error| Failed::silent(format!("cannot be waited for: {error}")))?;
    if !status.success() {
        // One that was killed leaves its own calls behind.
        let silent = status.code().is_none();
        return Err(Failed {
            what: format!("ended with {status}"),
            complaint: last_line(&complaint),
            silent,
        });
    }
    match read {
        (Ok(_), Ok(_)) => Ok(answer),
        (Err(error), _) | (_, Err(error)) => Err(format!("cannot be read: {error}").into()),
    }
}

async fn post(
    client: &Client,
    url: &Url,
    authorization: Option<&SecretText>,
    body: Zeroizing<Vec<u8>>,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
    let mut request = client.post(url.clone()).header(header::CONTENT_TYPE, "application/json");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization.reveal());
    }
    // An error of the client names the address, which may hold what is nobody's business.
    let why = |error: reqwest::Error| Failed::silent(format!("cannot be reached: {}", error.without_url()));
    let mut answer = request.body(body.to_vec()).send().await.map_err(why)?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        status if !status.is_success() => return Err(format!("answered {status}").into()),
        _ => {}
    }
    let mut read = Zeroizing::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(why)? {
        if (read.len() + chunk.len()) as u64 > ANSWER {
            return Err("answered more than 64 KiB".into());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(Some(read))
}

/// The last of what it complained, for one line.
fn last_line(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim();
    line.chars().filter(|char| !char.is_control()).take(COMPLAINT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str, timeout: Duration) -> Minter {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Minter::new(&Config { command, timeout, ..Config::default() }).expect("good")
    }

    const SHORT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_program_is_told_on_stdin_and_answers_on_stdout() {
        let told = json!({ "run": "r1" });
        let minter = shell(
            "read said; case $said in *'\"action\":\"mint\"'*r1*) echo '{\"key\": \"0190a8c2-a-run-key\"}';; esac",
            SHORT,
        );
        assert_eq!(minter.mint(&told).await.expect("a key").as_str(), "0190a8c2-a-run-key");
        let minter =
            shell("read said; case $said in *revoke*r1*'\"key\":\"k\"'*) exit 0;; esac; exit 1", SHORT);
        assert_eq!(minter.revoke(&told, Some("k")).await, Ok(()));
        assert!(minter.revoke(&told, None).await.is_err());
        // It need not listen.
        assert_eq!(
            shell("echo '{\"key\": \"0190a8c2-a-run-key\"}'", SHORT)
                .mint(&told)
                .await
                .expect("a key")
                .as_str(),
            "0190a8c2-a-run-key"
        );
    }

    #[tokio::test]
    async fn what_a_minter_does_wrong_is_told_without_what_it_said() {
        let told = json!({});
        for (script, says) in [
            ("echo 'no route to host' >&2; exit 3", "no route to host"),
            ("echo hunter2", "did not answer {\"key\""),
            ("echo '{\"key\": \"hunter2\"}'", "less than 16 bytes"),
            ("printf '{\"key\": \"hunter2-hunter2-\\\\n\"}'", "no variable can hold"),
        ] {
            let Failed { what, complaint, silent } =
                shell(script, SHORT).mint(&told).await.expect_err(script);
            assert!(
                [&what, &complaint].iter().any(|text| text.contains(says)),
                "{script}: {what} {complaint}"
            );
            assert!(!what.contains("hunter2") && !what.contains("host"), "{script}: {what}");
            assert!(!silent, "{script}: it has said all that it will");
        }
        for (script, says) in [("sleep 60", "within 0.2 s"), ("kill -9 $$", "signal")] {
            let Failed { what, silent, .. } =
                shell(script, Duration::from_millis(200)).mint(&told).await.expect_err(script);
            assert!(what.contains(says) && silent, "{what}");
        }
    }

    #[test]
    fn a_minter_is_a_program_or_an_address() {
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            Minter::new(&config).map(drop).expect_err("refused")
        };
        assert!(with(&|_| {}).contains("neither"));
        assert!(with(&|c| c.command = vec![String::new()]).contains("command[0]"));
        let url = |text: &str| Url::parse(text).ok();
        assert!(with(&|c| (c.command, c.url) = (vec!["x".into()], url("https://x"))).contains("only one"));
        assert!(with(&|c| c.url = url("ftp://x")).contains("https://"));
        assert!(with(&|c| c.url = url("https://a:b@x")).contains("authorization"));
        assert!(with(&|c| (c.command, c.timeout) = (vec!["x".into()], SHORT * 6)).contains("timeout"));
    }
}
