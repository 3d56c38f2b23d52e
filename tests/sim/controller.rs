//! The controller: the real one, on its own database file, reached over wires. It can be killed at any statement and
//! started again.

use crate::wire::{Door, Wire};
use futures::future::BoxFuture;
use longshore_common::{
    ids::AgentId,
    process::{Process, WallClock},
    shutdown::Shutdown,
    tasks,
};
use longshore_controller::{
    Controller, ControllerConfig, Running,
    api::{self, Context},
};
use longshore_proto::v1::jobs_client::JobsClient;
use longshore_tests::token::{self, Authorized};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    task,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{service::Routes, transport::Server};
use tower::Service;

/// Turns of the runtime until all of a killed process must be gone.
const TURNS: usize = 10_000;
const CONNECTIONS: usize = 64;

#[derive(Debug)]
pub(crate) struct ControllerSeat {
    dir: PathBuf,
    config: ControllerConfig,
    clock: Arc<WallClock>,
    door: Door,
    /// For whoever watches: never in trouble.
    wire: Arc<Wire>,
    up: Option<Up>,
}

#[derive(Debug)]
struct Up {
    since: Instant,
    process: Process,
    running: Running,
    jobs: JobsClient<Authorized>,
}

impl ControllerSeat {
    pub(crate) fn new(dir: PathBuf, config: ControllerConfig, clock: Arc<WallClock>) -> Self {
        let door = Door::default();
        let wire = Wire::new(Arc::clone(&door));
        Self { dir, config, clock, door, wire, up: None }
    }

    pub(crate) fn door(&self) -> Door {
        Arc::clone(&self.door)
    }

    /// A client, while it is up.
    pub(crate) fn jobs(&self) -> Option<JobsClient<Authorized>> {
        self.up.as_ref().map(|up| up.jobs.clone())
    }

    pub(crate) fn up_since(&self) -> Option<Instant> {
        self.up.as_ref().map(|up| up.since)
    }

    /// What the agent will show. While it is up.
    pub(crate) async fn enrol(&self, agent: AgentId) -> String {
        let up = self.up.as_ref().expect("it was started");
        let key = up.process.clone().within(up.running.enrol(agent)).await;
        key.expect("the key is on disk")
    }

    pub(crate) async fn start(&mut self) {
        let process = Process::new(Arc::clone(&self.clock));
        let config = ControllerConfig {
            // Nobody connects to it: bytes that are no messages are not part of this.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: self.dir.clone(),
            ..self.config.clone()
        };
        let starting = Controller::start(config, Shutdown::new());
        let running = process.clone().within(starting).await.expect("the controller starts on what it left");
        let (door, arriving) = mpsc::channel(CONNECTIONS);
        let routes = api::routes(&running.context).await.expect("the services are known");
        let routes = Routes::from(api::auth::guarded(&running.context, routes.into_axum_router()));
        let inside = process.clone();
        let layer = tower::layer::layer_fn(move |inner| Inside { inner, process: inside.clone() });
        let served = Server::builder()
            .layer(layer)
            .add_routes(routes)
            .serve_with_incoming(ReceiverStream::new(arriving));
        drop(process.enter(|| tasks::spawn("wires", served)));
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = Some(door);
        let jobs = JobsClient::new(token::authorized(self.wire.channel(), &self.dir));
        self.up = Some(Up { since: Instant::now(), process, running, jobs });
    }

    /// As SIGKILL. The wires of the agents are for the caller to cut.
    pub(crate) async fn kill(&mut self, wires: impl Iterator<Item = &Arc<Wire>>) {
        let Some(Up { process, running, jobs, .. }) = self.up.take() else { return };
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner).take());
        let context = Arc::downgrade(&running.context);
        drop((running, jobs));
        process.kill().await;
        self.wire.cut();
        wires.for_each(|wire| wire.cut());
        gone(&context).await;
    }
}

/// Connections notice that they were cut and let go.
async fn gone(context: &Weak<Context>) {
    for _ in 0..TURNS {
        if context.strong_count() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("something of a killed controller lives on");
}

/// Answers calls as tasks of the process, so that they end with it.
#[derive(Clone, Debug)]
struct Inside<S> {
    inner: S,
    process: Process,
}

impl<S, B> Service<http::Request<B>> for Inside<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let call = self.inner.call(request);
        let process = self.process.clone();
        Box::pin(async move {
            let mut task = Abort(process.enter(|| tasks::spawn("call", call)));
            match (&mut task.0).await {
                Ok(answer) => answer,
                // Killed: there is no answer, and soon no connection.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// A caller that goes ends the call.
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
