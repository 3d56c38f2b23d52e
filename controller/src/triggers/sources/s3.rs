//! A bucket as a source.

use super::{Object, SourceConfig};
use jiff::Timestamp as Instant;
use longshore_common::clock::Timestamp;
use reqwest::Client;
use rusty_s3::{
    Bucket as Address, Credentials, S3Action as _, UrlStyle,
    actions::{GetObject, ListObjectsV2},
};
use std::time::Duration;
use url::Url;

/// One call.
const CALL: Duration = Duration::from_secs(60);

pub(super) struct Bucket {
    address: Address,
    credentials: Credentials,
    client: Client,
    /// For messages.
    place: String,
}

impl Bucket {
    pub(super) fn open(config: &SourceConfig, endpoint: &Url, secret: &str) -> Result<Self, String> {
        let place = format!("bucket {} at {endpoint}", config.bucket);
        let region = config.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let address = Address::new(endpoint.clone(), UrlStyle::Path, config.bucket.clone(), region)
            .map_err(|error| format!("makes no address: {error}"))?;
        let client = Client::builder().connect_timeout(Duration::from_secs(10)).timeout(CALL).build();
        let client = client.map_err(|error| format!("has no HTTP client: {error}"))?;
        let credentials = Credentials::new(config.access_key.clone(), secret.to_owned());
        Ok(Self { address, credentials, client, place })
    }

    /// `None`: there are more than `most`.
    pub(super) async fn list(&self, prefix: &str, most: usize) -> Result<Option<Vec<Object>>, String> {
        let mut all = Vec::new();
        let mut token = None::<String>;
        loop {
            let mut action = ListObjectsV2::new(&self.address, Some(&self.credentials));
            action.with_prefix(prefix);
            if let Some(token) = &token {
                action.with_continuation_token(token.clone());
            }
            let text = self.get(action.sign(CALL)).await?;
            let page = ListObjectsV2::parse_response(&text)
                .map_err(|error| format!("{} answers no list: {error}", self.place))?;
            if all.len() + page.contents.len() > most {
                return Ok(None);
            }
            all.extend(page.contents.into_iter().map(|found| Object {
                modified: found.last_modified.and_then(|at| at.parse().ok()).map(moment),
                key: found.key,
                size: found.size.unwrap_or_default(),
                etag: found.etag.unwrap_or_default().trim_matches('"').to_owned(),
            }));
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(Some(all));
            }
        }
    }

    pub(super) fn sign(&self, key: &str, valid: Duration) -> String {
        GetObject::new(&self.address, Some(&self.credentials), key).sign(valid).to_string()
    }

    async fn get(&self, url: Url) -> Result<String, String> {
        // Without the address in what is said: it is signed.
        let away = |error: reqwest::Error| format!("{} does not answer: {}", self.place, error.without_url());
        let response = self.client.get(url).send().await.map_err(away)?;
        let status = response.status();
        let text = response.text().await.map_err(away)?;
        if status.is_success() {
            return Ok(text);
        }
        let code =
            text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next()).unwrap_or_default();
        Err(format!("{} refuses the list: {status} {code}", self.place).trim_end().to_owned())
    }
}

fn moment(at: Instant) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}
