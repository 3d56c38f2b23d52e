//! `longshore controller`: the controller's daemon, and its database's backup and restore.

use crate::daemon::{ConfigArgs, flag, leave_on_signal};
use crate::failure::Failure;
use crate::output::{print, say};
use clap::{Args, Subcommand};
use longshore_common::units::{HumanDuration, plural};
use longshore_controller::config::RabbitConfig;
use longshore_controller::{Controller, ControllerConfig, blobs::s3, pki, secrets, store};
use rustix::fs::Mode;
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/longshore/controller.toml";

#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// For gRPC and HTTP alike
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Let others reach it without TLS: they then read every token, secret and log
    #[arg(long)]
    insecure: bool,
    /// The address others reach it by
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Database, logs and artifacts
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy the database while the controller runs
    Backup {
        /// A file that is not there yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Make a new token for everything, for a stopped controller whose first one is lost
    AdminToken,
    /// Put a backup in the place of the database of a stopped controller, and begin a new epoch
    Restore {
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Replace a database that is there
        #[arg(long)]
        force: bool,
    },
    /// Wrap the secrets of a stopped controller with another key
    RotateSecretsKey {
        /// The key from now on, 32 bytes in base64; made if it is missing
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
        /// Make a new data key too, and encrypt every value again
        #[arg(long)]
        new_data_key: bool,
    },
    /// The authority that signs the certificates of controller and agents
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Subcommand)]
enum Ca {
    /// Print the certificates to trust, out of the data directory
    Show,
    /// Sign with a new authority from now on; a running controller follows within a minute
    Rotate {
        /// How long the old one is trusted as well: agents must come by in it. Zero: every machine joins again
        #[arg(long, value_name = "TIME", default_value = "90d")]
        overlap: HumanDuration,
    },
}

pub(crate) async fn run(args: ControllerArgs) -> anyhow::Result<i32> {
    let flags = [
        flag("--listen", "listen", args.listen.as_ref()),
        flag("--public-url", "public_url", args.public_url.as_ref()),
        flag("--insecure", "tls.insecure", args.insecure.then_some(&true)),
        flag("--data-dir", "data_dir", args.data_dir.as_ref()),
    ];
    let flags = flags.into_iter().flatten().collect();
    let Some(config) = args.config.load(FILE, flags, &example())? else { return Ok(0) };
    let database = config.data_dir.join("longshore.db");
    // Whatever this process writes holds jobs' environments and keys, also where the folder was there before.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    match args.command {
        None => serve(config).await,
        Some(Command::Backup { to }) => backup(&database, &to).await,
        Some(Command::AdminToken) => admin_token(&config).await,
        Some(Command::Restore { from, force }) => restore(&from, &database, force).await,
        Some(Command::RotateSecretsKey { new_key_file, new_data_key }) => {
            rotate(&config, &new_key_file, new_data_key).await
        }
        Some(Command::Ca(command)) => authority(command, &config),
    }
}

async fn serve(config: ControllerConfig) -> anyhow::Result<i32> {
    let shutdown = leave_on_signal()?;
    let running = Controller::start(config, shutdown).await?;
    running.join().await;
    Ok(0)
}

fn authority(command: Ca, config: &ControllerConfig) -> anyhow::Result<i32> {
    let authority = match command {
        Ca::Show => pki::authority(&config.tls, &config.data_dir)?,
        Ca::Rotate { overlap } => pki::rotate(&config.tls, &config.data_dir, overlap.0)?,
    };
    print(&authority.bundle())?;
    say(format!("SHA-256 {}", hex::encode(authority.fingerprint())));
    Ok(0)
}

async fn backup(database: &Path, to: &Path) -> anyhow::Result<i32> {
    store::backup(database, to).await.map_err(|error| Failure::new(error.to_string()))?;
    say(format!("{} is a backup of {}; logs and artifacts are not in it", to.display(), database.display()));
    Ok(0)
}

async fn admin_token(config: &ControllerConfig) -> anyhow::Result<i32> {
    let made = longshore_controller::renew_admin_token(config).await;
    let file = made.map_err(|error| Failure::new(error.to_string()))?;
    say(format!("a new token is in {}; the one before opens nothing any more", file.display()));
    Ok(0)
}

async fn restore(from: &Path, database: &Path, force: bool) -> anyhow::Result<i32> {
    let epoch =
        store::restore(from, database, force).await.map_err(|error| Failure::new(error.to_string()))?;
    say(format!("{} is restored, epoch {epoch}; start the controller", database.display()));
    Ok(0)
}

async fn rotate(config: &ControllerConfig, new: &Path, renew: bool) -> anyhow::Result<i32> {
    let rotated = secrets::rotate(&config.secrets, &config.data_dir, new, renew).await;
    let count = rotated.map_err(|error| Failure::new(error.to_string()))?;
    let file = new.display();
    say(format!(
        "{} under the key in {file}; set secrets.key_file = \"{file}\", then start the controller",
        plural(count as u64, "value is", "values are")
    ));
    Ok(0)
}

/// A value for every setting that has none by itself.
pub(super) fn example() -> ControllerConfig {
    let url = |text: &str| text.parse().expect("a constant address");
    ControllerConfig {
        public_url: Some(url("https://ship.example:7420")),
        tls: pki::Config {
            certificate: Some("/etc/longshore/ship.pem".into()),
            key: Some("/etc/longshore/ship.key".into()),
            ca_certificate: Some("/etc/longshore/authority.pem".into()),
            ca_key: Some("/etc/longshore/authority.key".into()),
            ..pki::Config::default()
        },
        s3: Some(s3::Config {
            endpoint: url("https://s3.example"),
            bucket: "longshore".to_owned(),
            access_key: "AKIAEXAMPLE".to_owned(),
            secret_key: "from-your-vault".to_owned(),
            region: "us-east-1".to_owned(),
            path_style: true,
            prefix: String::new(),
        }),
        rabbitmq: Some(RabbitConfig {
            url: "amqp://longshore@mq.example:5672/%2f".to_owned(),
            agent_url: Some("amqp://longshore-agent@mq.example:5672/%2f".to_owned()),
            management_url: Some(url("https://longshore@mq.example:15671")),
            prefix: "longshore".to_owned(),
        }),
        secrets: secrets::Config {
            key_file: Some("/etc/longshore/secrets.key".into()),
            key: Some(secrets::SecretText::new("from-your-vault")),
        },
        ..ControllerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::config;

    #[test]
    fn every_setting_is_shown_and_secrets_are_not() {
        let text = config::print(&ControllerConfig::default(), &example());
        for line in [
            "# public_url = ",
            "# [s3]",
            "# bucket = ",
            "# [rabbitmq]",
            "# agent_url = ",
            "# management_url = ",
            "[jobs]",
        ] {
            assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
        }
        assert!(!text.contains(" = \n"), "a setting without an example: {text}");
        let set = config::print(&example(), &example());
        assert!(set.contains("\n[s3]") && set.contains("(hidden)") && !set.contains("vault"), "{set}");
    }
}
