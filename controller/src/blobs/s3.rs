//! Objects in a bucket of S3 or a compatible store (MinIO, Garage, Ceph). Addresses are signed here, without a
//! call; bytes of jobs never pass through the controller. The bucket is the operator's: never made, never removed.

use super::{Blobs, Content, Error};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use longshore_common::artifact::{UploadTarget, part_size};
use reqwest::{Client, Method, Response, StatusCode, header};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{CreateMultipartUpload, DeleteObjectsResponse, ObjectIdentifier},
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};
use url::Url;

/// How long the controller's own calls' signatures hold: one try.
const CALL: Duration = Duration::from_secs(60);
/// Between two pieces of an object that is read.
const STALL: Duration = Duration::from_secs(60);
/// What one DeleteObjects call takes at most.
const DELETE_BATCH: usize = 1_000;
/// S3 refuses addresses that are valid for longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the bucket is and who may use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `https://s3.eu-central-1.amazonaws.com`, `http://minio:9000`. Agents and clients must reach it too.
    pub endpoint: Url,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
    #[serde(default = "default_region")]
    pub region: String,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    #[serde(default = "default_path_style")]
    pub path_style: bool,
    /// Before every key, so that several clusters can share a bucket.
    #[serde(default)]
    pub prefix: String,
}

/// What AWS signs with when nothing is said; MinIO and Ceph accept it.
fn default_region() -> String {
    "us-east-1".to_owned()
}

/// Works with every compatible server and with names that are no host names; AWS still serves it.
const fn default_path_style() -> bool {
    true
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("endpoint", &self.endpoint.as_str())
            .field("bucket", &self.bucket)
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

pub struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    client: Client,
    prefix: String,
    /// For messages.
    place: String,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("place", &self.place).finish_non_exhaustive()
    }
}

impl S3 {
    /// Makes no call: whether the bucket is there is told by `health`.
    pub fn new(config: Config) -> Result<Self, Error> {
        let style = if config.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let place = format!("bucket {} at {}", config.bucket, config.endpoint);
        let bucket = Bucket::new(config.endpoint, style, config.bucket, config.region)
            .map_err(|error| Error::Refused(format!("{place} makes no address: {error}")))?;
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(CALL)
            .build()
            .map_err(|error| Error::Refused(format!("no HTTP client: {error}")))?;
        let credentials = Credentials::new(config.access_key, config.secret_key);
        Ok(Self { bucket, credentials, client, prefix: config.prefix, place })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn send(&self, method: Method, url: Url, body: Option<Bytes>) -> Result<Response, Error> {
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// Reads the whole of an answer; one that is not a success becomes an error.
    async fn text(&self, response: Response, doing: &str) -> Result<String, Error> {
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(text) } else { Err(self.refused(status, &text, doing)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        // Without the address: it is signed. The causes say more than the error itself.
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Error::Unreachable(format!("{} does not answer: {}", self.place, causes.join(": ")))
    }

    fn refused(&self, status: StatusCode, body: &str, doing: &str) -> Error {
        let code = element(body, "Code").unwrap_or_default();
        if code == "NoSuchBucket" {
            return Error::Refused(self.no_bucket());
        }
        let text = format!(
            "{}: {doing} was answered with {status} {code} {}",
            self.place,
            element(body, "Message").unwrap_or_default()
        );
        let text = text.trim_end().to_owned();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Error::Unreachable(text)
        } else {
            Error::Refused(text)
        }
    }

    fn no_bucket(&self) -> String {
        let (name, place) = (self.bucket.name(), self.place.rsplit_once(" at ").map_or("", |(_, at)| at));
        format!("bucket {name} does not exist at {place}: create it")
    }

    async fn create_multipart(&self, key: &str) -> Result<String, Error> {
        let url = self.bucket.create_multipart_upload(Some(&self.credentials), key).sign(CALL);
        let response = self.send(Method::POST, url, Some(Bytes::new())).await?;
        let text = self.text(response, "opening a multipart upload").await?;
        CreateMultipartUpload::parse_response(&text)
            .map(|parsed| parsed.upload_id().to_owned())
            .map_err(|error| Error::Refused(format!("{}: answer not understood: {error}", self.place)))
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(), Error> {
        let objects: Vec<_> = keys.iter().map(|key| ObjectIdentifier::new(self.key(key))).collect();
        let mut action = self.bucket.delete_objects(Some(&self.credentials), objects.iter());
        action.set_quiet(true);
        let url = action.sign(CALL);
        let (body, md5) = action.body_with_md5();
        let request =
            self.client.post(url).header("content-md5", md5).header(header::CONTENT_TYPE, "application/xml");
        let response = request.body(body).send().await.map_err(|error| self.unreachable(&error))?;
        let text = self.text(response, "deleting objects").await?;
        let parsed = DeleteObjectsResponse::parse(&text).ok();
        match parsed.and_then(|parsed| parsed.errors.into_iter().find(|e| e.code != "NoSuchKey")) {
            Some(error) => Err(Error::Refused(format!(
                "{}: {} was not deleted: {} {}",
                self.place, error.key, error.code, error.message
            ))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Blobs for S3 {
    async fn content(&self, key: &str) -> Result<Option<(u64, Content)>, Error> {
        let full = self.key(key);
        let url = self.bucket.get_object(Some(&self.credentials), &full).sign(CALL);
        // A large object takes longer than a call may; one that stalls is cut below.
        let response = self.client.get(url).timeout(LONGEST).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let Some(size) = response.content_length().filter(|_| response.status().is_success()) else {
            return Err(match self.text(response, "reading an object").await {
                Ok(_) => Error::Refused(format!("{}: no size in the answer for {full}", self.place)),
                Err(error) => error,
            });
        };
        let place = self.place.clone();
        let bytes = stream::try_unfold(response, move |mut response| {
            let place = place.clone();
            async move {
                let failed =
                    |why: &str| Error::Unreachable(format!("{place} {why} while an object was read"));
                match tokio::time::timeout(STALL, response.chunk()).await {
                    Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, response))),
                    Ok(Err(_)) => Err(failed("hung up")),
                    Err(_) => Err(failed("went silent")),
                }
            }
        });
        Ok(Some((size, bytes.boxed())))
    }

    async fn open_upload(&self, key: &str, size: u64, valid: Duration) -> Result<UploadTarget, Error> {
        let (key, valid) = (self.key(key), valid.min(LONGEST));
        let part_size = part_size(size);
        if size <= part_size {
            let url = self.bucket.put_object(Some(&self.credentials), &key).sign(valid);
            return Ok(UploadTarget { upload_id: None, part_size: size, urls: vec![url.into()] });
        }
        let id = self.create_multipart(&key).await?;
        let parts = u16::try_from(size.div_ceil(part_size))
            .map_err(|_| Error::Refused(format!("an object of {size} bytes has too many parts")))?;
        let urls = (1..=parts)
            .map(|part| self.bucket.upload_part(Some(&self.credentials), &key, part, &id).sign(valid).into())
            .collect();
        Ok(UploadTarget { upload_id: Some(id), part_size, urls })
    }

    async fn complete_upload(&self, key: &str, upload_id: &str, etags: &[String]) -> Result<(), Error> {
        let full = self.key(key);
        let etags = etags.iter().map(String::as_str);
        let action = self.bucket.complete_multipart_upload(Some(&self.credentials), &full, upload_id, etags);
        let url = action.sign(CALL);
        let response = self.send(Method::POST, url, Some(action.body().into())).await?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        // S3 may say 200 and then fail: the body tells.
        if status.is_success() && element(&text, "ETag").is_some() {
            return Ok(());
        }
        // A repeat of a call whose answer was lost: the upload is gone, and servers say so in many ways.
        if !status.is_server_error() && self.size(key).await?.is_some() {
            return Ok(());
        }
        Err(self.refused(status, &text, "completing a multipart upload"))
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), Error> {
        let full = self.key(key);
        let url = self.bucket.abort_multipart_upload(Some(&self.credentials), &full, upload_id).sign(CALL);
        let response = self.send(Method::DELETE, url, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.text(response, "aborting a multipart upload").await.map(drop)
    }

    async fn get_url(&self, key: &str, valid: Duration) -> Result<String, Error> {
        let key = self.key(key);
        Ok(self.bucket.get_object(Some(&self.credentials), &key).sign(valid.min(LONGEST)).into())
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        let full = self.key(key);
        let url = self.bucket.head_object(Some(&self.credentials), &full).sign(CALL);
        let response = self.send(Method::HEAD, url, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let length =
            response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        self.text(response, "asking for an object's size").await?;
        length
            .map(Some)
            .ok_or_else(|| Error::Refused(format!("{}: no size in the answer for {full}", self.place)))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let key = self.key(key);
        let url = self.bucket.put_object(Some(&self.credentials), &key).sign(CALL);
        let response = self.send(Method::PUT, url, Some(bytes)).await?;
        self.text(response, "storing an object").await.map(drop)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Error> {
        for batch in keys.chunks(DELETE_BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    async fn health(&self) -> Result<String, Error> {
        let url = self.bucket.head_bucket(Some(&self.credentials)).sign(CALL);
        let response = self.send(Method::HEAD, url, None).await?;
        match response.status() {
            status if status.is_success() => Ok(self.place.clone()),
            StatusCode::NOT_FOUND => Err(Error::Refused(self.no_bucket())),
            StatusCode::FORBIDDEN => Err(Error::Refused(format!(
                "{} refuses the credentials: check access_key, secret_key, region and the clock",
                self.place
            ))),
            status => Err(self.refused(status, "", "asking for the bucket")),
        }
    }
}

/// The text of the first element of this name in a small XML answer.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
