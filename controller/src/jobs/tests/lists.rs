use super::*;
use longshore_common::agent::AgentState;

async fn several(bench: &Bench, count: usize) -> Vec<JobView> {
    let mut jobs = Vec::new();
    for index in 0..count {
        let mut spec = spec();
        spec.name = Some(format!("n{}", index % 2));
        spec.labels.insert("parity".into(), (index % 2).to_string());
        spec.labels.insert("team".into(), "a".into());
        jobs.push(bench.submit(spec).await);
    }
    jobs
}

#[tokio::test]
async fn pages_are_whole_and_newest_first() {
    let bench = Bench::new().await;
    let mut expected: Vec<_> = several(&bench, 7).await.iter().map(|job| job.id).collect();
    expected.reverse();
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = bench.jobs.list(&JobFilter::default(), 3, &token).await.expect("a page");
        seen.extend(page.items.iter().map(|job| job.id));
        match page.next {
            Some(next) => token = next,
            None => break,
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_page_token_from_elsewhere_is_refused() {
    let bench = Bench::new().await;
    several(&bench, 3).await;
    let token = bench.jobs.list(&JobFilter::default(), 1, "").await.expect("a page").next.expect("more");
    let other = JobFilter { unfinished: true, ..JobFilter::default() };
    assert!(matches!(bench.jobs.list(&other, 1, &token).await, Err(Error::PageToken)));
    assert!(matches!(bench.jobs.list(&JobFilter::default(), 1, "zzzz").await, Err(Error::PageToken)));
    let elsewhere = Bench::new().await;
    assert!(matches!(elsewhere.jobs.list(&JobFilter::default(), 1, &token).await, Err(Error::PageToken)));
}

#[tokio::test]
async fn filters_are_all_of_them() {
    let bench = Bench::new().await;
    let jobs = several(&bench, 6).await;
    bench.jobs.cancel(vec![jobs[0].id], "anna", "").await.expect("stored");
    let count =
        async |filter: JobFilter| bench.jobs.list(&filter, 100, "").await.expect("a page").items.len();
    let labels = |pairs: &[(&str, &str)]| JobFilter {
        labels: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..JobFilter::default()
    };
    assert_eq!(count(labels(&[("team", "a")])).await, 6);
    assert_eq!(count(labels(&[("team", "a"), ("parity", "1")])).await, 3);
    assert_eq!(count(labels(&[("team", "b")])).await, 0);
    assert_eq!(count(JobFilter { unfinished: true, ..JobFilter::default() }).await, 5);
    assert_eq!(count(JobFilter { states: vec![JobState::Cancelled], ..JobFilter::default() }).await, 1);
    let named = JobFilter { name: Some("n0".into()), ..JobFilter::default() };
    assert_eq!(count(named.clone()).await, 3);
    assert_eq!(count(JobFilter { unfinished: true, ..named }).await, 2);
    assert_eq!(count(JobFilter { project: Some("other".into()), ..JobFilter::default() }).await, 0);
    assert_eq!(count(JobFilter { since: Some(jobs[4].created_at), ..JobFilter::default() }).await, 2);
}

#[tokio::test]
async fn a_text_names_a_job_by_id_name_or_beginning() {
    let bench = Bench::new().await;
    let jobs = several(&bench, 3).await;
    let resolve = async |text: &str| bench.jobs.resolve(text, None).await;
    for text in [jobs[0].id.to_string(), jobs[0].short_id.to_string()] {
        assert_eq!(resolve(&text).await.expect("found"), jobs[0].id);
    }
    assert_eq!(resolve("n0").await.expect("found"), jobs[2].id, "the newest of that name");
    let prefix = &jobs[1].short_id.as_str()[..7];
    assert_eq!(resolve(prefix).await.expect("found"), jobs[1].id);
    for text in ["", "nobody", "%", &JobId::new().to_string()] {
        assert!(matches!(resolve(text).await, Err(ResolveError::NotFound(_))), "{text}");
    }
}

#[tokio::test]
async fn a_beginning_of_several_ids_is_ambiguous() {
    let bench = Bench::new().await;
    let new = || NewJob {
        request_id: None,
        project: "p".into(),
        spec: spec(),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    // More jobs than letters: two begin alike.
    let jobs = bench.jobs.submit((0..33).map(|_| new()).collect()).await.expect("stored");
    let mut firsts: Vec<_> =
        jobs.iter().map(|job| job.as_ref().expect("taken").job.short_id.as_str()[..1].to_owned()).collect();
    firsts.sort();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).expect("33 of 32 letters")[0].clone();
    let error = bench.jobs.resolve(&twice, None).await.expect_err("ambiguous");
    assert!(matches!(&error, ResolveError::Ambiguous { matches, .. } if matches.len() >= 2), "{error}");
}

#[tokio::test]
async fn revisions_tell_every_change_once_and_never_go_back() {
    let bench = Bench::new().await;
    let mut changes = bench.jobs.nudges().changes();
    let jobs = several(&bench, 2).await;
    let before = bench.jobs.revision();
    bench.jobs.cancel(vec![jobs[0].id], "anna", "").await.expect("stored");
    let (changed, _) = bench.jobs.changed_since(&JobFilter::default(), before, 10).await.expect("read");
    assert_eq!(
        changed.iter().map(|job| (job.id, job.revision)).collect::<Vec<_>>(),
        [(jobs[0].id, before + 1)]
    );
    let mut told = Vec::new();
    while told.len() < 3 {
        told.extend(changes.recv().await.expect("told").iter().map(|change| (change.job, change.revision)));
    }
    assert_eq!(told, [(jobs[0].id, 1), (jobs[1].id, 2), (jobs[0].id, 3)]);
    bench.jobs.remove(vec![jobs[0].id]).await.expect("stored");
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(bench.jobs.revision(), before + 1, "also when the newest change is removed");
}

#[tokio::test]
async fn counts_and_agents_are_what_status_shows() {
    let bench = Bench::new().await;
    several(&bench, 2).await;
    bench.held(spec()).await;
    let here = identity("here");
    bench.jobs.hello(here.clone(), inventory(4, vec![])).await.expect("stored");
    let counts = bench.jobs.counts().await.expect("counted");
    assert_eq!((counts.queued, counts.running, counts.waiting), (2, 1, 0));
    assert!(counts.oldest_queued.is_some());
    assert_eq!(counts.agents_online, 1);
    bench.jobs.agent_left(here.id, SessionId::new());
    assert_eq!(bench.jobs.agent("here").expect("known").state, AgentState::Online, "an older link's end");
    bench.jobs.agent_left(here.id, here.session);
    assert_eq!(bench.jobs.agent("here").expect("known").state, AgentState::Disconnected);
    let bench = bench.reopen(Config { disconnect_tolerance: Duration::ZERO, ..Config::default() }).await;
    assert_eq!(bench.jobs.agent(&here.id.to_string()).expect("stored").state, AgentState::Lost);
}

#[tokio::test]
async fn lanes_are_counted_up_to_the_limit() {
    let bench = Bench::new().await;
    several(&bench, 5).await;
    let mut other = spec();
    other.pool = "night".into();
    bench.submit(other).await;
    let expected = BTreeMap::from([(Lane::new("default", false), 3), (Lane::new("night", false), 1)]);
    assert_eq!(bench.jobs.queued(3).await.expect("counted"), expected);
    assert_eq!(bench.jobs.queued_in(&Lane::new("default", true), 3).await.expect("counted"), 0);
}

#[tokio::test]
async fn a_page_of_large_specs_is_cut_short_and_goes_on() {
    let bench = Bench::new().await;
    for _ in 0..7 {
        let mut large = spec();
        large.env.insert("DATA".into(), "x".repeat(900_000));
        bench.submit(large).await;
    }
    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let page = bench.jobs.list(&JobFilter::default(), 1000, &token).await.expect("a page");
        pages.push(page.items.len());
        match page.next {
            Some(next) => token = next,
            None => break,
        }
    }
    assert_eq!(pages, [3, 3, 1], "no page is above the 4 MiB that clients take by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_its_attempts_are_of_one_instant() {
    let bench = Bench::new().await;
    let job = bench.submit(spec()).await.id;
    let over = std::sync::atomic::AtomicBool::new(false);
    let changing = async {
        for _ in 0..150 {
            let grant = bench.claim(AgentId::new(), offer(16, 1)).await.grants.pop().expect("a grant");
            bench.finish(report(grant.attempt, Outcome::AgentShutdown)).await.expect("taken");
        }
        over.store(true, std::sync::atomic::Ordering::Release);
    };
    let reading = async {
        while !over.load(std::sync::atomic::Ordering::Acquire) {
            let WholeJob { job, attempts, waiting } = bench.jobs.whole(job).await.expect("there");
            assert_eq!(attempts.len(), job.attempts as usize);
            let open = attempts.iter().filter(|attempt| attempt.finished_at.is_none()).count();
            assert_eq!((open == 1, waiting.is_none()), (job.state.is_held(), job.state.is_held()));
        }
    };
    tokio::join!(changing, reading);
}
