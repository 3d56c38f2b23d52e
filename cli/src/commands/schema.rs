//! `longshore schema`: the JSON Schema of a file people write.

use crate::output::print;
use clap::{Args, ValueEnum};
use longshore_common::{job, trigger};

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Job,
    Action,
    Trigger,
}

pub(crate) fn run(args: SchemaArgs) -> anyhow::Result<i32> {
    let schema = match args.kind {
        Kind::Job => job::file::schema(),
        Kind::Action => job::file::action_schema(),
        Kind::Trigger => trigger::file::schema(),
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(0)
}
