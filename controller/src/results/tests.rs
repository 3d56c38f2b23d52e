use super::*;
use crate::store::{self, Store};

#[tokio::test]
async fn a_link_opens_what_it_was_made_for_and_no_changed_one_does() {
    let home = tempfile::tempdir().expect("a folder");
    let config = store::Config { path: home.path().join("db"), ..store::Config::default() };
    let store = Store::open(&config).await.expect("opened");
    let jobs = Jobs::start(store, crate::jobs::Config::default()).await.expect("started");
    let attempt = AttemptRef { job: JobId::new(), number: 3, epoch: Epoch(2) };
    let grant = Grant { attempt, expires: Timestamp::from_micros(1_700_000_000_000_000) };
    let token = jobs.seal_link(&grant.to_bytes());
    assert_eq!(Grant::open(&jobs, &token), Some(grant));
    for at in [0, 20, token.len() - 1] {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("text");
        assert_eq!(Grant::open(&jobs, &changed), None, "{at}");
    }
    for wrong in ["", "x", &token[1..], &token[..token.len() - 4]] {
        assert_eq!(Grant::open(&jobs, wrong), None, "{wrong}");
    }
}
