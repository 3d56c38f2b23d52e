//! Calls of webhooks. A stranger learns nothing: a hook that is not there is refused as a wrong signature is, after the
//! same work.

use super::{Error, FiringView, Triggers, fire, signature, view};
use crate::store::{FiringRow, FiringState, TriggerRow};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, TriggerId},
    trigger::{Kind, Signature, When},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

/// One call, as it came.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    /// The last part of the address.
    pub(crate) hook: &'a str,
    pub(crate) longshore: Option<&'a str>,
    pub(crate) github: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// Why a call fires nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "refused: no such hook, or the signature is missing, wrong, or of a time more than five minutes from now"
    )]
    Signature,
    #[error("this trigger is disabled")]
    Disabled,
    #[error("too many deliveries; this trigger takes {0} in a minute")]
    TooMany(u32),
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What a believed call is told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) trigger: String,
    pub(crate) project: String,
    pub(crate) firing: FiringView,
    /// It was delivered before.
    pub(crate) again: bool,
}

/// How often each hook may be called.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<TriggerId, (u32, Arc<DefaultDirectRateLimiter>)>>);

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    fn takes(&self, id: TriggerId, per_minute: u32) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            all.get(&id).filter(|(known, _)| *known == per_minute).map(|(_, limit)| Arc::clone(limit));
        let limit = known.unwrap_or_else(|| {
            let rate = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
            let limit = Arc::new(RateLimiter::direct(Quota::per_minute(rate)));
            all.insert(id, (per_minute, Arc::clone(&limit)));
            limit
        });
        limit.check().is_ok()
    }

    pub(super) fn forget(&self, id: TriggerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Triggers {
    /// Fires, if whoever calls may. The same delivery again is answered with the same job.
    pub(crate) async fn deliver(&self, call: Delivery<'_>) -> Result<Answer, Denied> {
        let (row, per_minute, event) = self.believed(&call).ok_or(Denied::Signature)?;
        let jobs = &self.inner.jobs;
        let known = jobs.firing_of(row.id, &event).await.map_err(Error::from)?;
        let again = known.is_some();
        let answer =
            |firing| Answer { trigger: row.spec.name.clone(), project: row.project.clone(), firing, again };
        if let Some(known) = known {
            return Ok(answer(self.deliver_again(known).await?));
        }
        if !row.enabled {
            return Err(Denied::Disabled);
        }
        if !self.inner.limits.takes(row.id, per_minute) {
            return Err(Denied::TooMany(per_minute));
        }
        let cause = format!("delivery {}", shown(&event));
        let firing = fire::new(&row, FiringId::new(), event, Kind::Webhook, cause, 1);
        let firing = self.note_and_fire(&row, firing, payload(call.body)).await?;
        Ok(answer(firing))
    }

    /// What became of a delivery that came before. One that was refused may have been mended meanwhile.
    async fn deliver_again(&self, known: FiringRow) -> Result<FiringView, Error> {
        if known.state != FiringState::Refused {
            return Ok(view::firing(known));
        }
        let _one = self.inner.firing.lock().await;
        // It may have been told twice at once.
        let known = self.inner.jobs.firing(known.id).await?.unwrap_or(known);
        if known.state != FiringState::Refused {
            return Ok(view::firing(known));
        }
        let settled = self.settle(vec![known.clone()]).await?.pop();
        Ok(view::firing(settled.unwrap_or(known)))
    }

    /// The trigger, how often it is called at most, and the name of this delivery.
    fn believed(&self, call: &Delivery<'_>) -> Option<(Arc<TriggerRow>, u32, String)> {
        let row = {
            let state = self.read();
            state.rows.values().find(|row| row.hook.as_deref() == Some(call.hook)).cloned()
        };
        let hook = row.as_ref().and_then(|row| match &row.spec.when {
            When::Webhook(hook) => Some(hook.clone()),
            _ => None,
        });
        let secret = row.as_ref().and_then(|row| {
            let secret = self.inner.secrets.hook(&row.project, &row.id.to_string());
            secret
                .map_err(|error| tracing::error!(%error, "a webhook's secret cannot be read"))
                .ok()
                .flatten()
        });
        let scheme = hook
            .as_ref()
            .map_or(if call.github.is_some() { Signature::Github } else { Signature::Longshore }, |hook| {
                hook.signature
            });
        let header = match scheme {
            Signature::Longshore => call.longshore,
            Signature::Github => call.github,
        };
        let now = Timestamp::now().as_micros().div_euclid(1_000_000);
        let nobody = [0; 64];
        let key = secret.as_ref().map_or(&nobody[..], |secret| &secret[..]);
        let event = signature::verify(scheme, key, header, call.body, now);
        // A secret that nobody has signs nothing, even with the key that stands in for it.
        secret.as_ref()?;
        Some((row?, hook?.per_minute, event?))
    }
}

/// Long names of bodies say nothing to people.
fn shown(event: &str) -> String {
    let name = event.split_once(' ').map_or(event, |(_, name)| name);
    name.chars().take(40).collect()
}

/// JSON as it is, other text as text, and the rest as base64.
fn payload(body: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(body) {
        return value;
    }
    match std::str::from_utf8(body) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => {
            use base64::Engine as _;
            json!({ "base64": base64::engine::general_purpose::STANDARD.encode(body) })
        }
    }
}
