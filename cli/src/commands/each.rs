//! `--each`: a job for each row of a table, made together as a batch, and followed to their ends.

use super::batches;
use crate::client::Client;
use crate::failure::{Failure, code};
use crate::output::{FormatArgs, print, say, to_json};
use crate::transfer::upload;
use clap::Args;
use longshore_common::job::file::each::{self, EachJob, Form, Template};
use longshore_common::job::{Input, file::JobFile};
use longshore_common::{wire, wire::status::Refusal};
use longshore_proto::v1::{self, create_batch_request::Part};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A table is read whole.
const LARGEST: u64 = 64 << 20;
/// Of one message.
const PIECE: usize = 1 << 20;
const JOBS: usize = 500;

/// Rows of a table, and how their jobs are let go.
#[derive(Debug, Default, Args)]
pub(crate) struct EachArgs {
    /// A job for each row: FILE.csv or FILE.jsonl, whose columns are env.NAME, inputs.NAME, a parameter of the action,
    /// or any field of a job file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) each: Option<PathBuf>,
    /// Let so many jobs of the batch go at once [default: all]
    #[arg(long, value_name = "N", requires = "each", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: Option<u32>,
}

/// What a batch is made of, besides its table.
pub(crate) struct Order<'a> {
    pub(crate) template: Template,
    pub(crate) table: &'a Path,
    pub(crate) max_parallel: Option<u32>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) request_id: Option<String>,
}

/// Uploads, submits all rows or none, and answers the batch.
pub(crate) async fn submit(
    client: &Client,
    order: Order<'_>,
    adjust: impl Fn(&mut JobFile),
) -> anyhow::Result<v1::Batch> {
    let name = order.table.display().to_string();
    let mut rows = read(&order.template, order.table)?;
    rows.iter_mut().for_each(|row| adjust(&mut row.job));
    let header = v1::BatchHeader {
        request_id: order.request_id.unwrap_or_else(super::request_id),
        project: client.project().to_owned(),
        name: title(&rows),
        max_parallel: order.max_parallel.unwrap_or_default(),
    };
    upload_folders(client, &mut rows).await?;
    let secrets = order.secrets.into_iter();
    let secrets: HashMap<_, _> = secrets.map(|(name, value)| (name, value.into_bytes().into())).collect();
    let requests = rows.iter().map(|row| request(&row.job, &secrets)).collect();
    let messages = messages(header, requests);
    let call = || {
        let (mut api, messages) = (client.batches(), messages.clone());
        async move { api.create(futures::stream::iter(messages)).await }
    };
    let answer = Box::pin(client.ask_again(call)).await?;
    if !answer.errors.is_empty() {
        return Err(Failure::usage(refused(&name, &rows, answer)).into());
    }
    Ok(batches::there(answer.batch)?)
}

/// The jobs of a table over a template.
pub(crate) fn read(template: &Template, table: &Path) -> Result<Vec<EachJob>, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", table.display()));
    let mut bytes = Vec::new();
    let stdin = table == Path::new("-");
    let source: Box<dyn std::io::Read> = if stdin {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(table).map_err(unreadable)?)
    };
    source.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        let most = LARGEST >> 20;
        return Err(Failure::usage(format!("{}: is more than {most} MiB; split it", table.display())));
    }
    let name = table.display().to_string();
    let form = Form::of(&name, &bytes).ok_or_else(|| {
        Failure::usage(format!(
            "{name}: what it is shows in its name: FILE.csv, or FILE.jsonl with an object a line"
        ))
    })?;
    let name = if stdin { "stdin".to_owned() } else { name };
    each::each(template, &bytes, form, &name).map_err(|error| Failure::usage(error.to_string()))
}

/// Follows the batch to its end in front of a person. Its first Ctrl-C cancels, the second one leaves it.
pub(crate) async fn to_end(client: &Client, batch: v1::Batch, format: FormatArgs) -> anyhow::Result<i32> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let id = batch.id.clone();
    let jobs = longshore_common::units::plural(batch.total.into(), "job", "jobs");
    say(format!("batch {id}  {jobs}     Ctrl-C cancels · again leaves it running"));
    let watch = batches::follow(client, &id);
    tokio::pin!(watch);
    let ended = tokio::select! {
        ended = &mut watch => ended?,
        _ = interrupts.recv() => {
            say("  cancel   asked for; Ctrl-C again stops waiting for it");
            let cancelled = async {
                let (cancelled, ended) = tokio::join!(batches::cancel(client, &id, "Ctrl-C"), &mut watch);
                cancelled?;
                ended
            };
            tokio::select! {
                ended = cancelled => ended?,
                _ = interrupts.recv() => {
                    say(format!("batch {id} is being cancelled; its end: longshore batches wait {id}"));
                    return Ok(code::INTERRUPTED);
                }
            }
        }
    };
    batches::end(client, &ended, format).await
}

/// What was made, for who does not wait.
pub(crate) fn leave(batch: &v1::Batch, format: FormatArgs) -> anyhow::Result<i32> {
    if !format.write(|| to_json("Batch", batch))? {
        print(&format!("{}\n", batch.id))?;
    }
    Ok(0)
}

/// Bytes.
const LONGEST_TITLE: usize = 128;

/// What the jobs have in common: a name, an action, an image.
fn title(rows: &[EachJob]) -> String {
    let name = |row: &EachJob| {
        let JobFile { spec, action, .. } = &row.job;
        let image = spec.image.rsplit('/').next().unwrap_or_default();
        let of = || match action {
            Some(run) => run.action.name.clone(),
            None => image.split(['@', ':']).next().unwrap_or_default().to_owned(),
        };
        spec.name.clone().unwrap_or_else(of)
    };
    let first = rows.first().map(name).unwrap_or_default();
    let same = rows.iter().all(|row| name(row) == first);
    // A title, which nobody wrote, is no reason to be refused.
    first[..first.floor_char_boundary(LONGEST_TITLE)].chars().filter(|_| same).collect()
}

async fn upload_folders(client: &Client, rows: &mut [EachJob]) -> anyhow::Result<()> {
    let mut known: HashMap<PathBuf, String> = HashMap::new();
    for EachJob { job, .. } in rows {
        for (name, folder) in std::mem::take(&mut job.folders) {
            let id = match known.get(&folder) {
                Some(id) => id.clone(),
                None => {
                    let id = upload::folder(client, &name, &folder).await?;
                    known.insert(folder, id.clone());
                    id
                }
            };
            job.spec.inputs.insert(name, Input::Uploaded { id });
        }
    }
    Ok(())
}

/// Of a run of an action only what was said goes out.
fn request(job: &JobFile, secrets: &HashMap<String, bytes::Bytes>) -> v1::SubmitRequest {
    let JobFile { spec, action, .. } = job;
    let said = action.as_ref().map(|action| wire::said_of(spec, &action.said));
    v1::SubmitRequest {
        spec: Some(said.unwrap_or_else(|| spec.into())),
        action: action.as_ref().map(v1::ActionRun::from),
        secrets: secrets.clone(),
        ..v1::SubmitRequest::default()
    }
}

fn messages(header: v1::BatchHeader, requests: Vec<v1::SubmitRequest>) -> Vec<v1::CreateBatchRequest> {
    let message = |part| v1::CreateBatchRequest { part: Some(part) };
    let mut messages = vec![message(Part::Header(header))];
    let (mut jobs, mut size) = (Vec::new(), 0);
    for request in requests {
        let more = request.encoded_len();
        if !jobs.is_empty() && (jobs.len() >= JOBS || size + more > PIECE) {
            messages.push(message(Part::Jobs(v1::BatchJobs { jobs: std::mem::take(&mut jobs) })));
            size = 0;
        }
        size += more;
        jobs.push(request);
    }
    messages.push(message(Part::Jobs(v1::BatchJobs { jobs })));
    messages
}

/// The controller's refusals, each at the line of its row.
fn refused(name: &str, rows: &[EachJob], answer: v1::CreateBatchResponse) -> String {
    let mut problems = Vec::new();
    for v1::RowError { row, error } in answer.errors {
        let line =
            usize::try_from(row).ok().and_then(|row| rows.get(row.checked_sub(1)?)).map(|row| row.line);
        let refusal = Refusal::from(error.unwrap_or_default());
        if refusal.fields.is_empty() {
            problems.push((line, String::new(), refusal.message));
        } else {
            problems.extend(refusal.fields.into_iter().map(|field| (line, field.path, field.message)));
        }
    }
    let mut text = each::told(name, problems).to_string();
    if answer.errors_left_out > 0 {
        text.push_str(&format!("\n{name}: and in {} more rows", answer.errors_left_out));
    }
    text.push_str("\nno job was submitted");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::JobSpec;

    fn row(line: usize, name: &str) -> EachJob {
        let mut spec = JobSpec::for_image("host:5000/rsl/a:1");
        spec.name = Some(name.to_owned()).filter(|name| !name.is_empty());
        EachJob { line, job: JobFile { spec, action: None, folders: BTreeMap::new() } }
    }

    #[test]
    fn a_batch_is_called_what_its_jobs_have_in_common() {
        assert_eq!(title(&[row(2, ""), row(3, "")]), "a");
        assert_eq!(title(&[row(2, "x"), row(3, "x")]), "x");
        assert_eq!(title(&[row(2, "x"), row(3, "y")]), "");
        assert_eq!(title(&[row(2, &"ü".repeat(65))]).len(), 128);
    }

    #[test]
    fn messages_hold_a_piece_of_the_jobs_each_and_none_is_lost() {
        let requests: Vec<_> = (0..1_201).map(|_| request(&row(2, "x").job, &HashMap::new())).collect();
        let count = |message: &v1::CreateBatchRequest| match &message.part {
            Some(Part::Jobs(jobs)) => jobs.jobs.len(),
            _ => 0,
        };
        let sizes: Vec<_> = messages(v1::BatchHeader::default(), requests).iter().map(count).collect();
        assert_eq!(sizes, [0, 500, 500, 201]);
        let mut large = request(&row(2, "x").job, &HashMap::new());
        large.secrets.insert("s".into(), vec![0; PIECE].into());
        let sizes: Vec<_> =
            messages(v1::BatchHeader::default(), vec![large.clone(), large]).iter().map(count).collect();
        assert_eq!(sizes, [0, 1, 1]);
    }

    #[test]
    fn refusals_stand_at_the_lines_of_their_rows() {
        let error = |row| v1::RowError {
            row,
            error: Some(v1::RequestError {
                code: 3,
                message: "wrong".into(),
                fields: vec![v1::FieldError { path: "inputs.d".into(), message: "no such job".into() }],
            }),
        };
        let answer = v1::CreateBatchResponse {
            errors: vec![error(1), error(2)],
            errors_left_out: 7,
            ..v1::CreateBatchResponse::default()
        };
        let text = refused("t.csv", &[row(2, ""), row(5, "")], answer);
        assert_eq!(
            text,
            "t.csv:2: inputs.d: no such job (and in 1 more row)\nt.csv: and in 7 more rows\nno job was submitted"
        );
    }
}
