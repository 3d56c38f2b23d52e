//! What people do with triggers: make, change, switch, adopt, remove.

use super::{Error, MOST, TriggerView, Triggers, make::Matcher, sources::Object};
use crate::{
    identity::Token,
    store::{FiringRow, FiringState, PutTrigger, TriggerRow},
};
use longshore_common::{
    action::{Action, ActionRef},
    clock::Timestamp,
    fields::{FieldError, FieldErrors},
    ids::TriggerId,
    trigger::{Completion, Objects, Run, Setting, TriggerSpec, When},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Firings that are tried anew together; older ones come when they are due.
const AT_ONCE: u32 = 500;
/// For all prefixes of one call together.
const LOOK_AHEAD: Duration = Duration::from_secs(60);

/// What an apply did, or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    pub trigger: TriggerView,
    /// `created`, `changed`, `adopted` or `unchanged`.
    pub change: &'static str,
    pub changed: Vec<String>,
    /// Of a new webhook, this once.
    pub secret: Option<String>,
}

impl Triggers {
    /// All of them, or none.
    pub async fn apply(
        &self,
        project: &str,
        specs: Vec<TriggerSpec>,
        by: &Token,
        dry_run: bool,
    ) -> Result<Vec<Applied>, Error> {
        // A store may take long to answer, and clocks wait for the lock.
        let news = |spec: &&TriggerSpec| {
            let known = self.row(project, &spec.name).ok();
            !matches!(past(known.as_deref(), spec), Past::AsItWas)
        };
        let there = self.look_ahead(project, specs.iter().filter(news)).await?;
        let _one = self.inner.changing.lock().await;
        let mut errors = FieldErrors::new();
        let mut puts = Vec::with_capacity(specs.len());
        let several = specs.len() > 1;
        for (index, spec) in specs.into_iter().enumerate() {
            match self.put(project, spec, by, &there).await {
                Ok(put) => puts.push(put),
                Err(Error::Invalid(wrong)) => {
                    let at = |error: FieldError| {
                        if several { error.under(&format!("triggers[{index}]")) } else { error }
                    };
                    wrong.into_iter().map(at).for_each(|error| errors.add(error));
                }
                Err(error) => return Err(error),
            }
        }
        errors.into_result(())?;
        self.check_room(project, &puts)?;
        if dry_run {
            return self.shown(puts, Vec::new()).await;
        }
        let mut secrets = Vec::new();
        for (put, known, _) in &puts {
            let had = known.as_ref().is_some_and(|known| known.hook.is_some());
            let secret = if put.row.hook.is_some() && !had {
                Some(self.inner.secrets.set_hook(project, &put.row.id.to_string(), &by.name).await?)
            } else {
                None
            };
            secrets.push(secret);
        }
        self.inner.jobs.put_triggers(puts.iter().map(|(put, ..)| put.clone()).collect()).await?;
        for (put, known, _) in &puts {
            self.keep(put.row.clone());
            self.note_problem(put.row.id, None);
            if put.row.hook.is_none() && known.as_ref().is_some_and(|known| known.hook.is_some()) {
                self.inner.secrets.remove_hook(project, &put.row.id.to_string()).await?;
            }
        }
        self.inner.clocks.notify_one();
        self.shown(puts, secrets).await
    }

    fn check_room(&self, project: &str, puts: &[Put]) -> Result<(), Error> {
        let there = self.read().rows.values().filter(|row| row.project == project).count();
        let new = puts.iter().filter(|(_, known, _)| known.is_none()).count();
        if there + new > MOST {
            return Err(Error::TooMany { project: project.to_owned(), most: MOST });
        }
        Ok(())
    }

    async fn shown(&self, puts: Vec<Put>, secrets: Vec<Option<String>>) -> Result<Vec<Applied>, Error> {
        let mut applied = Vec::with_capacity(puts.len());
        let mut secrets = secrets.into_iter();
        for (put, known, changed) in puts {
            let change = match &known {
                None => "created",
                Some(_) if !changed.is_empty() => "changed",
                Some(known) if known.owner_id != put.row.owner_id => "adopted",
                Some(_) => "unchanged",
            };
            let trigger = self.view(&put.row).await?;
            applied.push(Applied { trigger, change, changed, secret: secrets.next().flatten() });
        }
        Ok(applied)
    }

    /// The row as it is to be, the one that was, and the fields in which they differ.
    async fn put(&self, project: &str, spec: TriggerSpec, by: &Token, there: &There) -> Result<Put, Error> {
        self.check(project, &spec).await?;
        let known = self.row(project, &spec.name).ok();
        let now = Timestamp::now();
        let changed = known.as_ref().map_or_else(Vec::new, |known| differences(&known.spec, &spec));
        let mut row = match &known {
            Some(known) => (**known).clone(),
            None => TriggerRow {
                id: TriggerId::new(),
                project: project.to_owned(),
                spec: spec.clone(),
                enabled: true,
                hook: None,
                owner_id: String::new(),
                owner: String::new(),
                cursor_at: now,
                cursor_revision: 0,
                created_at: now,
                updated_at: now,
            },
        };
        if !changed.is_empty() {
            row.updated_at = now;
        }
        row.spec = spec;
        by.id.clone_into(&mut row.owner_id);
        by.name.clone_into(&mut row.owner);
        row.hook = match &row.spec.when {
            When::Webhook(_) => row.hook.or_else(|| Some(hex::encode(rand::random::<[u8; 16]>()))),
            _ => None,
        };
        let afresh = is_afresh(known.as_deref(), &row.spec);
        let seen = match past(known.as_deref(), &row.spec) {
            Past::AsItWas => Seen::new(),
            Past::All => self.seen_so_far(&mut row, afresh, there)?,
            Past::Beyond(before) => {
                let mut seen = self.seen_so_far(&mut row, afresh, there)?;
                let before = Matcher::new(before).map_err(|problem| wrong("objects.match", problem))?;
                seen.retain(|(name, _)| !before.takes(name));
                seen
            }
        };
        Ok((PutTrigger { row, afresh, seen }, known, changed))
    }

    /// Lists the prefixes whose objects are to count as seen. Stores may take long, but not for ever.
    async fn look_ahead(
        &self,
        project: &str,
        specs: impl Iterator<Item = &TriggerSpec>,
    ) -> Result<There, Error> {
        let mut there = There::new();
        let late = tokio::time::sleep(LOOK_AHEAD);
        tokio::pin!(late);
        for spec in specs {
            let When::Objects(objects) = &spec.when else { continue };
            // What is wrong is told with the rest of what is.
            let fires = objects.existing && is_afresh(self.row(project, &spec.name).ok().as_deref(), spec);
            if fires || self.inner.sources.check(&objects.source, project, false).is_err() {
                continue;
            }
            let listed = tokio::select! {
                listed = self.list_objects(objects) => listed,
                () = &mut late => Err(format!("`{}` did not answer within {LOOK_AHEAD:?}", objects.source)),
            };
            let listed = listed.map_err(|problem| wrong("objects.source", problem))?;
            let marks = listed.into_iter().map(|object| (object.key.clone(), object.mark())).collect();
            there.insert(spec.name.clone(), (spec.when.clone(), marks));
        }
        Ok(there)
    }

    /// Everything that has happened is past. Answers the objects that count as seen.
    fn seen_so_far(&self, row: &mut TriggerRow, afresh: bool, there: &There) -> Result<Seen, Error> {
        row.cursor_at = Timestamp::now();
        row.cursor_revision = self.inner.jobs.revision();
        match &row.spec.when {
            When::Objects(objects) if !(objects.existing && afresh) => match there.get(&row.spec.name) {
                Some((when, marks)) if *when == row.spec.when => Ok(marks.clone()),
                _ => Err(Error::Changed(row.spec.name.clone())),
            },
            _ => Ok(Seen::new()),
        }
    }

    pub(super) async fn list_objects(&self, objects: &Objects) -> Result<Vec<Object>, String> {
        let most = self.inner.config.most_objects;
        let mut all = self.inner.sources.list(&objects.source, &objects.prefix, most).await?;
        let matcher = Matcher::new(objects)?;
        all.retain(|object| matcher.takes(&object.key));
        Ok(all)
    }

    /// What only this controller can know to be wrong.
    async fn check(&self, project: &str, spec: &TriggerSpec) -> Result<(), Error> {
        let mut errors = FieldErrors::new();
        if let When::Objects(objects) = &spec.when {
            let input = objects.input.is_some();
            if let Err(problem) = self.inner.sources.check(&objects.source, project, input) {
                errors.push("objects.source", problem);
            }
        }
        match &spec.run {
            Run::Job(job) => {
                let mut wrong = FieldErrors::new();
                self.inner.secrets.check(project, job, &[], &mut wrong);
                errors.merge(wrong.into_iter().map(|error| error.under("job")).collect());
            }
            Run::Action(action) => self.check_action(project, spec, action, &mut errors).await?,
        }
        Ok(errors.into_result(())?)
    }

    /// What its version says now; each firing is judged anew.
    async fn check_action(
        &self,
        project: &str,
        spec: &TriggerSpec,
        reference: &ActionRef,
        errors: &mut FieldErrors,
    ) -> Result<(), Error> {
        let version = reference.version.unwrap_or_default();
        let view = match self.inner.actions.get(project, &reference.name, version).await {
            Ok(view) => view,
            Err(error) if error.is_transient() => return Err(Error::Actions(error)),
            Err(error) => {
                errors.push("action", error.to_string());
                return Ok(());
            }
        };
        if let Some(archived) = &view.archived {
            let (name, by) = (reference.name.clone(), archived.by.clone());
            errors.push("action", crate::actions::Error::Archived { name, by }.to_string());
        }
        check_inputs(&view.action, spec, errors);
        for (name, setting) in &spec.set {
            let problem = match (view.action.parameters.get(name), setting) {
                (None, _) => Some(format!("is no parameter of {reference}")),
                (Some(known), _) if !known.adjustable => {
                    Some(format!("is fixed by {reference}: its author has not marked it as adjustable"))
                }
                (Some(known), Setting::Value(value)) => known.value(value).err(),
                (Some(_), Setting::Payload(_)) => None,
            };
            if let Some(problem) = problem {
                errors.push(format!("set.{name}"), problem);
            }
        }
        let missing = view
            .action
            .parameters
            .iter()
            .filter(|(name, known)| known.required && !spec.set.contains_key(*name));
        missing.for_each(|(name, known)| {
            errors.push(format!("set.{name}"), format!("is missing: {reference} needs {}", known.takes()));
        });
        Ok(())
    }

    /// One that is enabled goes on from now.
    pub async fn enable(&self, project: &str, name: &str, enabled: bool) -> Result<TriggerView, Error> {
        let known = self.row(project, name)?;
        let wakes = (enabled && !known.enabled).then_some(&known.spec);
        let there = self.look_ahead(project, wakes.into_iter()).await?;
        let _one = self.inner.changing.lock().await;
        let mut row = (*self.row(project, name)?).clone();
        let mut seen = Seen::new();
        if enabled && !row.enabled {
            seen = self.seen_so_far(&mut row, false, &there)?;
        }
        row.enabled = enabled;
        self.write_row(row, seen).await
    }

    pub async fn adopt(&self, project: &str, name: &str, by: &Token) -> Result<TriggerView, Error> {
        let _one = self.inner.changing.lock().await;
        let mut row = (*self.row(project, name)?).clone();
        by.id.clone_into(&mut row.owner_id);
        by.name.clone_into(&mut row.owner);
        let view = self.write_row(row, Seen::new()).await?;
        self.try_now(view.id).await?;
        Ok(view)
    }

    /// What waits for its next try need wait no longer: somebody has mended what refused it.
    pub(super) async fn try_now(&self, trigger: TriggerId) -> Result<(), Error> {
        let _one = self.inner.firing.lock().await;
        let waiting = self.inner.jobs.firings(trigger, None, AT_ONCE).await?.into_iter();
        let waiting = waiting.filter(|firing| firing.state == FiringState::Pending);
        let now = |firing| FiringRow { next_try: Some(Timestamp::now()), ..firing };
        self.inner.jobs.settle_firings(waiting.map(now).collect()).await?;
        self.inner.noted.notify_one();
        Ok(())
    }

    async fn write_row(&self, mut row: TriggerRow, seen: Seen) -> Result<TriggerView, Error> {
        row.updated_at = Timestamp::now();
        let put = PutTrigger { row: row.clone(), afresh: false, seen };
        self.inner.jobs.put_triggers(vec![put]).await?;
        let row = self.keep(row);
        self.note_problem(row.id, None);
        self.inner.clocks.notify_one();
        self.view(&row).await
    }

    /// A new secret, which is nowhere else. The former one is refused from now on.
    pub async fn rotate(&self, project: &str, name: &str, by: &str) -> Result<(TriggerView, String), Error> {
        let _one = self.inner.changing.lock().await;
        let row = self.row(project, name)?;
        if row.hook.is_none() {
            return Err(Error::NoWebhook(name.to_owned()));
        }
        let secret = self.inner.secrets.set_hook(project, &row.id.to_string(), by).await?;
        Ok((self.view(&row).await?, secret))
    }

    pub async fn remove(&self, project: &str, name: &str) -> Result<(), Error> {
        let _one = self.inner.changing.lock().await;
        // What is just being made a job of is still to be written down.
        let _firing = self.inner.firing.lock().await;
        let row = self.row(project, name)?;
        self.inner.jobs.remove_trigger(row.id).await?;
        self.write().rows.remove(&row.id);
        self.note_problem(row.id, None);
        self.inner.limits.forget(row.id);
        if row.hook.is_some() {
            self.inner.secrets.remove_hook(project, &row.id.to_string()).await?;
        }
        Ok(())
    }
}

/// Objects and their marks.
type Seen = Vec<(String, String)>;
/// What prefixes held, by the names of their triggers; and what those asked for then.
type There = BTreeMap<String, (When, Seen)>;
type Put = (PutTrigger, Option<Arc<TriggerRow>>, Vec<String>);

fn wrong(path: &str, message: String) -> Error {
    Error::Invalid(FieldError::new(path, message).into())
}

/// The one that it gives is one of the action's, and those that the action needs are given.
fn check_inputs(action: &Action, spec: &TriggerSpec, errors: &mut FieldErrors) {
    let (path, given) = match &spec.when {
        When::Objects(Objects { input, .. }) => ("objects.input", input.as_ref()),
        When::Completion(Completion { input, .. }) => ("completion.input", input.as_ref()),
        When::Cron(_) | When::Webhook(_) => ("action", None),
    };
    let name = &action.name;
    if let Some(given) = given {
        match action.inputs.get(given) {
            None => errors.push(path, format!("`{given}` is no input of {name}")),
            Some(input) if !input.adjustable => {
                errors.push(
                    path,
                    format!("`{given}` is fixed by {name}: its author has not marked it as adjustable"),
                );
            }
            Some(_) => {}
        }
    }
    let needed = action.inputs.iter().filter(|(_, input)| input.required && input.source.is_none());
    for (input, _) in needed.filter(|(input, _)| given != Some(*input)) {
        errors.push(path, format!("{name} needs the input `{input}`, and this trigger gives it none"));
    }
}

/// What is past for a trigger that is written.
enum Past<'a> {
    /// What was: objects that wait go on waiting.
    AsItWas,
    All,
    /// And what this looked at goes on as it was.
    Beyond(&'a Objects),
}

fn past<'a>(known: Option<&'a TriggerRow>, spec: &TriggerSpec) -> Past<'a> {
    match (known.map(|known| &known.spec.when), &spec.when) {
        (Some(When::Objects(old)), When::Objects(new)) if !is_afresh(known, spec) => {
            if old.matching == new.matching { Past::AsItWas } else { Past::Beyond(old) }
        }
        (Some(old), new) if old == new => Past::AsItWas,
        _ => Past::All,
    }
}

/// Whether it looks elsewhere than before, so that what it has seen says nothing.
fn is_afresh(known: Option<&TriggerRow>, spec: &TriggerSpec) -> bool {
    let place = |when: &When| match when {
        When::Objects(objects) => Some((objects.source.clone(), objects.prefix.clone())),
        _ => None,
    };
    known.is_none_or(|known| place(&known.spec.when) != place(&spec.when))
}

/// Names of the fields in which two triggers differ.
fn differences(old: &TriggerSpec, new: &TriggerSpec) -> Vec<String> {
    let mut names = Vec::new();
    let mut note = |name: &str, differs: bool| {
        if differs {
            names.push(name.to_owned());
        }
    };
    note("description", old.description != new.description);
    note(new.when.kind().as_str(), old.when != new.when);
    match (&old.run, &new.run) {
        (Run::Job(old), Run::Job(new)) => note("job", old != new),
        (Run::Action(old), Run::Action(new)) => note("action", old != new),
        (Run::Action(_), Run::Job(_)) => note("job", true),
        (Run::Job(_), Run::Action(_)) => note("action", true),
    }
    note("set", old.set != new.set);
    note("labels", old.labels != new.labels);
    note("kleinkram", old.kleinkram != new.kleinkram);
    note("overlap", old.overlap != new.overlap);
    note("retry_for", old.retry_for != new.retry_for);
    note("max_depth", old.max_depth != new.max_depth);
    names
}
