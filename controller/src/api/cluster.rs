//! How the controller itself is.

use super::{
    Context,
    agents::orders::{author, note},
    auth, status,
};
use longshore_common::{clock::Timestamp, fleet::Pause, wire};
use longshore_proto::v1;
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

/// A part that takes longer to answer is ill.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Service {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let (context, caller) = (&self.0, auth::caller(&request)?);
        let mut paused = context.jobs.paused_projects();
        paused.retain(|(project, _)| caller.sees(project));
        let paused = paused
            .into_iter()
            .map(|(project, pause)| v1::PausedProject { project, pause: Some((&pause).into()) });
        let bound = caller.is_bound();
        let counts = context.jobs.counts().await.map_err(status::jobs)?;
        let (cluster, epoch) = context.jobs.cluster();
        let now = Timestamp::now();
        Ok(Response::new(v1::StatusResponse {
            cluster_id: cluster.to_string(),
            epoch: epoch.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parts: parts(context)
                .await
                .into_iter()
                .map(|part| if bound { bare(part) } else { part })
                .collect(),
            queued: counts.queued,
            waiting: counts.waiting,
            running: counts.running,
            oldest_queued: counts.oldest_queued.map(|oldest| wire::duration_to(now.since(oldest))),
            publish_lag: context.lag.get().map(wire::duration_to),
            agents_online: counts.agents_online,
            agents_disconnected: counts.agents_disconnected,
            agents_lost: counts.agents_lost,
            uptime: Some(wire::duration_to(context.started.elapsed())),
            paused: context.jobs.paused(None).as_ref().map(Into::into),
            paused_projects: paused.collect(),
        }))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        let caller = auth::caller(&request)?;
        let note = note(&request.into_inner().note)?;
        let pause = Pause { note, author: author(&caller), at: Timestamp::now() };
        caller.touches("all projects");
        self.0.jobs.pause(None, pause.clone()).await.map_err(status::jobs)?;
        Ok(Response::new(v1::PauseResponse { paused: Some((&pause).into()) }))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        auth::caller(&request)?.touches("all projects");
        self.0.jobs.resume(None).await.map_err(status::jobs)?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn ca(&self, _request: Request<v1::CaRequest>) -> Result<Response<v1::CaResponse>, Status> {
        let pki = self.0.enrolment.pki().ok_or_else(|| {
            Status::failed_precondition("this controller speaks no TLS: there is no certificate to trust")
        })?;
        Ok(Response::new(v1::CaResponse {
            pem: pki.bundle(),
            fingerprint: pki.fingerprint().to_vec().into(),
        }))
    }
}

/// Without paths and addresses: they are for those who run the cluster.
fn bare(part: v1::Part) -> v1::Part {
    let detail = if part.healthy { "" } else { "is ill; who runs the cluster sees why" };
    v1::Part { detail: detail.to_owned(), ..part }
}

/// Database, queue, store and disk, asked at the same time.
pub(crate) async fn parts(context: &Context) -> Vec<v1::Part> {
    let (database, queue, store) = tokio::join!(
        part("database", async { context.jobs.health().await.map_err(|error| error.to_string()) }),
        part("queue", async { context.publisher.health().await.map_err(|error| error.to_string()) }),
        part("store", async { context.blobs.health().await.map_err(|error| error.to_string()) }),
    );
    let disk = match context.disk.describe() {
        Ok(detail) => v1::Part { name: "disk".to_owned(), healthy: true, detail },
        Err(detail) => v1::Part { name: "disk".to_owned(), healthy: false, detail },
    };
    let users = context.queue.users().map(|users| match users.health() {
        Ok(detail) => v1::Part { name: "queue users".to_owned(), healthy: true, detail },
        Err(detail) => v1::Part { name: "queue users".to_owned(), healthy: false, detail },
    });
    let keys = context.run_keys.health().map(|health| match health {
        Ok(detail) => v1::Part { name: "run keys".to_owned(), healthy: true, detail },
        Err(detail) => v1::Part { name: "run keys".to_owned(), healthy: false, detail },
    });
    [database, queue, store, disk].into_iter().chain(users).chain(keys).collect()
}

async fn part(name: &str, asked: impl Future<Output = Result<String, String>>) -> v1::Part {
    let (healthy, detail) = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(detail)) => (true, detail),
        Ok(Err(detail)) => (false, detail),
        Err(_) => (false, format!("no answer in {} s", PATIENCE.as_secs())),
    };
    v1::Part { name: name.to_owned(), healthy, detail }
}
