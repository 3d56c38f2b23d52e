//! Numbers for Prometheus, in its text form.

use crate::api::Context;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use longshore_common::clock::Timestamp;
use std::{
    fmt::{Display, Write as _},
    sync::Arc,
};

pub(super) async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let counts = match context.jobs.counts().await {
        Ok(counts) => counts,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    };
    let mut page = Page::default();
    let states = [("waiting", counts.waiting), ("queued", counts.queued), ("running", counts.running)];
    page.labelled("longshore_jobs", "Unfinished jobs by state.", "state", &states);
    let agents = [
        ("online", counts.agents_online),
        ("disconnected", counts.agents_disconnected),
        ("lost", counts.agents_lost),
    ];
    page.labelled("longshore_agents", "Agents by state.", "state", &agents);
    let now = Timestamp::now();
    let oldest = counts.oldest_queued.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
    page.gauge("longshore_oldest_queued_seconds", "How long the oldest queued job has waited.", oldest);
    let lag = context.lag.get().unwrap_or_default().as_secs_f64();
    page.gauge("longshore_publish_lag_seconds", "For how long queued work has been without a hint.", lag);
    page.gauge("longshore_linked_agents", "Agents linked to this controller.", context.links.count());
    let counters = &context.counters;
    for (name, help, value) in [
        ("longshore_jobs_submitted_total", "Jobs made.", &counters.submitted),
        ("longshore_claims_total", "Claims answered.", &counters.claims),
        ("longshore_grants_total", "Attempts granted.", &counters.granted),
        ("longshore_finishes_total", "Ends of attempts reported.", &counters.finished),
        ("longshore_log_bytes_total", "Bytes of logs received.", &counters.log_bytes),
    ] {
        page.counter(name, help, value.get());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response()
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    fn labelled<T: Display>(&mut self, name: &str, help: &str, label: &str, values: &[(&str, T)]) {
        self.head(name, help, "gauge");
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes any text");
    }
}
