//! Serves the directory store's signed addresses. The signature is the only permission; bodies are streamed.

use super::{answer_with, refuse};
use crate::blobs::{
    Directory, WriteError,
    ticket::{Action, Denied},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, Method, StatusCode, header};
use std::io::{Seek as _, SeekFrom};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

/// What is read from a file at a time.
const CHUNK: usize = 256 << 10;

pub fn routes(store: Directory) -> Router {
    Router::new().route("/blobs/{*key}", axum::routing::get(read).put(write)).with_state(store)
}

async fn read(
    State(store): State<Directory>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = store.verify(&method, &key, &query.unwrap_or_default()) {
        return refuse(StatusCode::FORBIDDEN, &denied);
    }
    let (mut file, size) = match store.read(&key).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return refuse(StatusCode::NOT_FOUND, &"there is no such object: it was removed or never stored");
        }
        Err(error) => return failed(&error),
    };
    let range = match headers.get(header::RANGE).and_then(|v| v.to_str().ok()).map(|v| range(v, size)) {
        None | Some(Range::Ignored) => None,
        Some(Range::Part(first, last)) => Some((first, last)),
        Some(Range::Beyond) => {
            return answer_with(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"))
                .body(Body::empty())
                .expect("the parts are valid");
        }
    };
    let (status, start, length) = match range {
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        None => (StatusCode::OK, 0, size),
    };
    if let Err(error) = file.seek(SeekFrom::Start(start)) {
        return failed(&error);
    }
    let body = tokio::fs::File::from_std(file).take(length);
    let mut response = answer_with(status)
        .header(header::CONTENT_LENGTH, length)
        .header(header::ACCEPT_RANGES, "bytes")
        // Bytes of jobs: a browser must not run them as part of this site.
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, "sandbox");
    if let Some((first, last)) = range {
        response = response.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"));
    }
    response.body(Body::from_stream(ReaderStream::with_capacity(body, CHUNK))).expect("the parts are valid")
}

async fn write(
    State(store): State<Directory>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let ticket = match store.verify(&method, &key, &query.unwrap_or_default()) {
        Ok(ticket) => ticket,
        Err(denied) => return refuse(StatusCode::FORBIDDEN, &denied),
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(got) = announced.filter(|got| *got != ticket.size) {
        return not_written(&WriteError::WrongSize { expected: ticket.size, got });
    }
    let body = body.into_data_stream();
    let written = match ticket.action {
        Action::Put => store.write_object(&ticket, body).await.map(|()| None),
        Action::PutPart => store.write_part(&ticket, body).await.map(Some),
        Action::Get => return refuse(StatusCode::FORBIDDEN, &Denied::Method),
    };
    match written {
        Ok(None) => answer_with(StatusCode::OK).body(Body::empty()).expect("the parts are valid"),
        Ok(Some(etag)) => answer_with(StatusCode::OK)
            .header(header::ETAG, format!("\"{etag}\""))
            .body(Body::empty())
            .expect("the parts are valid"),
        Err(error) => not_written(&error),
    }
}

fn not_written(error: &WriteError) -> Response {
    let status = match error {
        WriteError::WrongSize { .. } | WriteError::WrongDigest { .. } | WriteError::Body(_) => {
            StatusCode::BAD_REQUEST
        }
        WriteError::UnknownUpload => StatusCode::NOT_FOUND,
        WriteError::Full => StatusCode::INSUFFICIENT_STORAGE,
        WriteError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::warn!(%error, "an object was not stored");
    }
    refuse(status, error)
}

fn failed(error: &std::io::Error) -> Response {
    tracing::warn!(%error, "an object was not read");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, &format_args!("the object could not be read: {error}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// First and last byte.
    Part(u64, u64),
    /// Nothing of it is in the object.
    Beyond,
    /// Not a single byte range: the whole object is a valid answer.
    Ignored,
}

fn range(value: &str, size: u64) -> Range {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Range::Ignored;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= size => Range::Beyond,
        (Ok(first), Ok(last)) if last >= first => Range::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, size - 1),
        (Err(_), Ok(0)) if first.is_empty() => Range::Beyond,
        (Err(_), Ok(count)) if first.is_empty() && size > 0 => {
            Range::Part(size.saturating_sub(count), size - 1)
        }
        _ => Range::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (value, expected) in [
            ("bytes=0-0", Range::Part(0, 0)),
            ("bytes=2-99", Range::Part(2, 9)),
            ("bytes=4-", Range::Part(4, 9)),
            ("bytes=-3", Range::Part(7, 9)),
            ("bytes=-99", Range::Part(0, 9)),
            ("bytes=10-", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=5-4", Range::Ignored),
            ("bytes=0-1,4-5", Range::Ignored),
            ("lines=1-2", Range::Ignored),
        ] {
            assert_eq!(range(value, 10), expected, "{value}");
        }
        assert_eq!(range("bytes=0-", 0), Range::Beyond);
    }
}
