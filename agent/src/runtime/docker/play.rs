//! Plays processes of an engine on a socket, for tests of what happens when one answers badly or is replaced.

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::runtime::Runtime;

/// Instead of a status: the call is taken and never answered.
pub(super) const NEVER: u16 = 0;

/// Status and body for a method and a path; `None`: an answer that begins and never ends.
type Answer = Arc<dyn Fn(&str, &str) -> Option<(u16, String)> + Send + Sync>;

/// A process of the engine. All its connections break when it ends.
pub(super) struct Process(Option<Runtime>);

impl Process {
    pub(super) fn start(
        socket: &Path,
        answer: impl Fn(&str, &str) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        // Left by the one before.
        drop(std::fs::remove_file(socket));
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("made");
        let answer: Answer = Arc::new(answer);
        let router = Router::new().fallback(respond).with_state(answer);
        runtime.spawn(async move {
            let listener = tokio::net::UnixListener::from_std(listener).expect("has a reactor");
            axum::serve(listener, router).await
        });
        Self(Some(runtime))
    }

    pub(super) async fn end(mut self) {
        let runtime = self.0.take().expect("it ends once");
        let end = move || runtime.shutdown_timeout(Duration::from_secs(5));
        tokio::task::spawn_blocking(end).await.expect("it ended");
    }
}

impl Drop for Process {
    /// A test that fails must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn respond(State(answer): State<Answer>, method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let said = if path.ends_with("/version") {
        Some((200, r#"{"ApiVersion":"1.41"}"#.to_owned()))
    } else if path.ends_with("/events") {
        None
    } else {
        answer(method.as_str(), path).or_else(|| path.ends_with("/info").then(|| (200, "{}".to_owned())))
    };
    match said {
        Some((NEVER, _)) => std::future::pending().await,
        Some((status, body)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return (status, [("connection", "upgrade"), ("upgrade", "tcp")]).into_response();
            }
            (status, [("content-type", "application/json")], body).into_response()
        }
        None => Body::from_stream(futures::stream::pending::<std::io::Result<Vec<u8>>>()).into_response(),
    }
}
