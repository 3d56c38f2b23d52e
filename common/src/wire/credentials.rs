//! What a caller sends with every call of gRPC: its token, and the project it keeps to.

use std::fmt;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// The metadata by which a caller of all projects keeps to one.
pub const PROJECT: &str = "longshore-project";

/// Put between a client and its channel.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<MetadataValue<Ascii>>,
    project: Option<MetadataValue<Ascii>>,
}

/// A text that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("holds characters that no token and no name has")]
pub struct Unsendable;

impl Credentials {
    /// Empty texts are not sent.
    pub fn new(token: &str, project: &str) -> Result<Self, Unsendable> {
        let value = |text: String| MetadataValue::try_from(text).map_err(|_| Unsendable);
        let token = Some(token.trim()).filter(|token| !token.is_empty());
        let token = token.map(|token| value(format!("Bearer {token}"))).transpose()?;
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        let project = Some(project).filter(|project| !project.is_empty());
        Ok(Self { token, project: project.map(|project| value(project.to_owned())).transpose()? })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("project", &self.project).finish_non_exhaustive()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(project) = &self.project {
            request.metadata_mut().insert(PROJECT, project.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_not_shown() {
        let mut sent = Credentials::new(" lst_a_hunter2\n", "pilot").expect("plain text");
        assert!(!format!("{sent:?}").contains("hunter2"));
        let request = sent.call(Request::new(())).expect("it refuses nothing");
        let value = request.metadata().get("authorization").expect("it is sent");
        assert_eq!(value.to_str().ok(), Some("Bearer lst_a_hunter2"));
        assert!(Credentials::new("a\nb", "").is_err());
    }
}
