//! The first token of a test's own controller.

use longshore_common::wire::Credentials;
use std::{fs, path::Path};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

/// A connection that shows a token with every call.
pub type Authorized = InterceptedService<Channel, Credentials>;

/// The text of the token that the controller of this data directory made at its first start.
pub fn text(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join(longshore_controller::identity::ADMIN_TOKEN)).ok()?;
    Some(text.trim().to_owned())
}

/// It may do everything.
pub fn admin(data_dir: &Path) -> Credentials {
    let text = text(data_dir).expect("the controller has made its first token");
    Credentials::new(&text, "").expect("a token is plain text")
}

/// As whoever has this text.
pub fn showing(channel: Channel, text: &str) -> Authorized {
    InterceptedService::new(channel, Credentials::new(text, "").expect("a token is plain text"))
}

/// As whoever may do everything, in this project.
pub fn of_project(channel: Channel, data_dir: &Path, project: &str) -> Authorized {
    let text = text(data_dir).expect("the controller has made its first token");
    InterceptedService::new(channel, Credentials::new(&text, project).expect("a token is plain text"))
}

pub fn authorized(channel: Channel, data_dir: &Path) -> Authorized {
    InterceptedService::new(channel, admin(data_dir))
}
