use super::*;
use crate::runtime::contract::{self, Script as Wish, Subject, sample_spec};
use std::path::PathBuf;

struct Pretended {
    fake: Fake,
    agent: AgentId,
    folder: tempfile::TempDir,
}

impl Subject for Pretended {
    fn runtime(&self) -> &dyn Runtime {
        &self.fake
    }

    fn agent(&self) -> AgentId {
        self.agent
    }

    fn scratch_root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn images(&self) -> (String, String) {
        ("app:2".to_owned(), "fake.missing/app".to_owned())
    }

    fn apply(&self, wish: Wish, spec: &mut ContainerSpec) {
        let mut set = |key: &str, value: String| spec.env.insert(key.to_owned(), value);
        match wish {
            Wish::Speak { stdout, stderr, exit } => {
                set("FAKE_STDOUT", stdout.to_owned());
                set("FAKE_STDERR", stderr.to_owned());
                set("FAKE_EXIT", exit.to_string());
            }
            Wish::RunUntilTerm(exit) => {
                set("FAKE_RUN", "forever".to_owned());
                set("FAKE_STDOUT", "ready\n".to_owned());
                set("FAKE_TERM_EXIT", exit.to_string());
            }
            Wish::IgnoreTerm => {
                set("FAKE_RUN", "forever".to_owned());
                set("FAKE_STDOUT", "ready\n".to_owned());
                set("FAKE_IGNORE_TERM", "1".to_owned());
            }
            Wish::Write { name, bytes } => {
                set("FAKE_FILES", format!("{name}:{bytes}"));
            }
            Wish::PassMemory => {
                set("FAKE_OOM", "1".to_owned());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    contract::all(&Pretended { fake: Fake::new(), agent: AgentId::new(), folder }).await;
}

#[tokio::test(start_paused = true)]
async fn runs_for_its_time_and_closes_its_output_then() {
    let fake = Fake::bare();
    let mut spec = sample_spec();
    spec.env.insert("FAKE_RUN".to_owned(), "2s".to_owned());
    let id = fake.create(&spec).await.expect("create");
    let began = Instant::now();
    let mut output = fake.start(&id).await.expect("start");
    let (end, closed) = tokio::join!(fake.wait(&id), output.0.recv());
    assert_eq!((end.expect("wait").code, closed), (0, None));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn a_script_that_cannot_be_played_is_refused() {
    for (key, value) in [("FAKE_RUN", "soon"), ("FAKE_EXIT", "x"), ("FAKE_FILES", "../a:1")] {
        let mut spec = sample_spec();
        spec.env.insert(key.to_owned(), value.to_owned());
        let error = Fake::new().create(&spec).await.expect_err(key);
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[tokio::test]
async fn bulk_output_has_the_size_asked_for() {
    let fake = Fake::bare();
    let mut spec = sample_spec();
    spec.env.insert("FAKE_OUTPUT_BYTES".to_owned(), "1000001".to_owned());
    let id = fake.create(&spec).await.expect("create");
    let mut output = fake.start(&id).await.expect("start");
    let mut bytes = 0;
    while let Some(chunk) = output.0.recv().await {
        bytes += chunk.data.len();
    }
    assert_eq!(bytes, 1_000_001);
}
