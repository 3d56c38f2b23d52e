//! What each call needs. The one table: a method without a row is not there, and a test holds it against the service
//! descriptors.

use longshore_common::access::Role;
use std::time::Duration;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever holds the signed address: its own check follows.
    Signed,
    /// A token with at least this role, of any project: the call keeps to the token's.
    Role(Role),
    /// A token with at least this role that is bound to no project.
    Global(Role),
    /// An agent's own credential.
    Agent,
    /// Whoever has the join token in the message: its own check follows.
    Invited,
}

#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `/longshore.v1.Jobs/Submit`, or a route of HTTP.
    pub path: &'static str,
    pub access: Access,
    /// It changes something: a line in the audit log says what.
    pub changes: bool,
    /// `None`: it may take as long as it takes.
    pub deadline: Option<Duration>,
    /// Within which all of the request is there; `None`: it goes on and on.
    pub body: Option<Duration>,
}

/// Far more than a call to a healthy database takes, and less than anybody's patience.
const SHORT: Option<Duration> = Some(Duration::from_secs(60));
/// A million names over a slow line.
const LONG: Option<Duration> = Some(Duration::from_secs(600));

const fn reads(path: &'static str, access: Access) -> Rule {
    Rule { path, access, changes: false, deadline: SHORT, body: SHORT }
}

const fn changes(path: &'static str, access: Access) -> Rule {
    Rule { path, access, changes: true, deadline: SHORT, body: SHORT }
}

impl Rule {
    const fn within(self, deadline: Option<Duration>) -> Self {
        let body = if deadline.is_some() { deadline } else { self.body };
        Self { deadline, body, ..self }
    }

    /// Both ways, for as long as both sides like.
    const fn open_ended(self) -> Self {
        Self { deadline: None, body: None, ..self }
    }
}

const VIEWER: Access = Access::Role(Role::Viewer);
const SUBMITTER: Access = Access::Role(Role::Submitter);
const OPERATOR: Access = Access::Role(Role::Operator);
/// Machines are everybody's.
const MACHINES: Access = Access::Global(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);

pub const RULES: &[Rule] = &[
    changes("/longshore.v1.Jobs/Submit", SUBMITTER),
    changes("/longshore.v1.Jobs/SubmitBatch", SUBMITTER),
    changes("/longshore.v1.Jobs/Cancel", SUBMITTER),
    changes("/longshore.v1.Jobs/Retry", SUBMITTER),
    changes("/longshore.v1.Jobs/Remove", SUBMITTER),
    changes("/longshore.v1.Jobs/UploadInputs", SUBMITTER),
    changes("/longshore.v1.Jobs/CompleteInputs", SUBMITTER),
    changes("/longshore.v1.Jobs/CreateInput", SUBMITTER).within(LONG),
    reads("/longshore.v1.Jobs/Get", VIEWER),
    reads("/longshore.v1.Jobs/List", VIEWER),
    reads("/longshore.v1.Jobs/Watch", VIEWER).within(None),
    reads("/longshore.v1.Jobs/Wait", VIEWER).within(None),
    reads("/longshore.v1.Jobs/Explain", VIEWER),
    reads("/longshore.v1.Jobs/StreamLogs", VIEWER).within(None),
    // Writes lines of its own: one with the command when it begins, one with its end.
    reads("/longshore.v1.Jobs/Exec", SUBMITTER).open_ended(),
    reads("/longshore.v1.Jobs/ListArtifacts", VIEWER),
    reads("/longshore.v1.Jobs/GetArtifactUrls", VIEWER),
    changes("/longshore.v1.Actions/Apply", SUBMITTER),
    changes("/longshore.v1.Actions/Archive", SUBMITTER),
    changes("/longshore.v1.Actions/Restore", SUBMITTER),
    reads("/longshore.v1.Actions/Get", VIEWER),
    reads("/longshore.v1.Actions/List", VIEWER),
    reads("/longshore.v1.Actions/ListVersions", VIEWER),
    reads("/longshore.v1.Actions/Diff", VIEWER),
    reads("/longshore.v1.Actions/Advise", VIEWER),
    reads("/longshore.v1.Jobs/LinkResults", VIEWER),
    reads("/longshore.v1.Agents/List", VIEWER),
    reads("/longshore.v1.Agents/Get", VIEWER),
    changes("/longshore.v1.Agents/CreateJoinToken", MACHINES),
    reads("/longshore.v1.Agents/ListJoinTokens", MACHINES),
    changes("/longshore.v1.Agents/RevokeJoinToken", MACHINES),
    changes("/longshore.v1.Agents/Remove", MACHINES),
    changes("/longshore.v1.Agents/ResetGpuHealth", MACHINES),
    changes("/longshore.v1.Agents/Cordon", MACHINES),
    changes("/longshore.v1.Agents/Uncordon", MACHINES),
    changes("/longshore.v1.Agents/Drain", MACHINES),
    changes("/longshore.v1.Agents/Label", MACHINES),
    reads("/longshore.v1.Agents/WatchEvents", VIEWER).within(None),
    reads("/longshore.v1.Cluster/Status", VIEWER),
    changes("/longshore.v1.Cluster/Pause", MACHINES),
    changes("/longshore.v1.Cluster/Resume", MACHINES),
    // Certificates are shown to whoever connects anyway.
    reads("/longshore.v1.Cluster/Ca", Access::Open),
    changes("/longshore.v1.Enrolment/Join", Access::Invited),
    reads("/longshore.v1.Access/WhoAmI", VIEWER),
    changes("/longshore.v1.Access/CreateToken", ADMIN),
    reads("/longshore.v1.Access/ListTokens", ADMIN),
    changes("/longshore.v1.Access/RevokeToken", ADMIN),
    reads("/longshore.v1.Access/ListAudit", Access::Global(Role::Admin)),
    changes("/longshore.v1.Projects/Put", Access::Global(Role::Admin)),
    reads("/longshore.v1.Projects/Get", VIEWER),
    reads("/longshore.v1.Projects/List", VIEWER),
    changes("/longshore.v1.Projects/SetSecret", OPERATOR),
    reads("/longshore.v1.Projects/ListSecrets", OPERATOR),
    changes("/longshore.v1.Projects/RemoveSecret", OPERATOR),
    changes("/longshore.v1.Projects/SetRegistry", OPERATOR),
    reads("/longshore.v1.Projects/ListRegistries", OPERATOR),
    changes("/longshore.v1.Projects/RemoveRegistry", OPERATOR),
    changes("/longshore.v1.Projects/Pause", OPERATOR),
    changes("/longshore.v1.Projects/Resume", OPERATOR),
    changes("/longshore.v1.Triggers/Apply", SUBMITTER),
    reads("/longshore.v1.Triggers/Get", VIEWER),
    reads("/longshore.v1.Triggers/List", VIEWER),
    reads("/longshore.v1.Triggers/ListFirings", VIEWER),
    changes("/longshore.v1.Triggers/SetEnabled", SUBMITTER),
    changes("/longshore.v1.Triggers/Fire", SUBMITTER),
    changes("/longshore.v1.Triggers/Adopt", SUBMITTER),
    changes("/longshore.v1.Triggers/RotateSecret", SUBMITTER),
    changes("/longshore.v1.Triggers/Remove", SUBMITTER),
    changes("/longshore.v1.Batches/Create", SUBMITTER).within(LONG),
    reads("/longshore.v1.Batches/Get", VIEWER),
    reads("/longshore.v1.Batches/List", VIEWER),
    reads("/longshore.v1.Batches/Watch", VIEWER).within(None),
    changes("/longshore.v1.Batches/Cancel", SUBMITTER),
    changes("/longshore.v1.Batches/Retry", SUBMITTER).within(LONG),
    // What agents do is the attempts' own history; only what is refused goes into the audit log.
    reads("/longshore.v1.AgentLink/Link", Access::Agent).open_ended(),
    reads("/longshore.v1.AgentLink/Claim", Access::Agent),
    reads("/longshore.v1.AgentLink/AppendLogs", Access::Agent),
    reads("/longshore.v1.AgentLink/ResumeLog", Access::Agent),
    reads("/longshore.v1.AgentLink/FetchInput", Access::Agent),
    reads("/longshore.v1.AgentLink/FetchSecrets", Access::Agent),
    reads("/longshore.v1.AgentLink/OpenUploads", Access::Agent),
    reads("/longshore.v1.AgentLink/CompleteUploads", Access::Agent).within(LONG),
    reads("/longshore.v1.AgentLink/PutManifest", Access::Agent),
    reads("/longshore.v1.AgentLink/Finish", Access::Agent),
    reads("/longshore.v1.AgentLink/Exec", Access::Agent).open_ended(),
    changes("/longshore.v1.AgentLink/Renew", Access::Agent),
    reads("/grpc.health.v1.Health/Check", Access::Open),
    reads("/grpc.health.v1.Health/List", Access::Open),
    reads("/grpc.health.v1.Health/Watch", Access::Open).within(None),
    // The protocol is published; what is behind it is not.
    reads("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Open).open_ended(),
    reads("/healthz", Access::Open),
    reads("/readyz", Access::Open),
    reads("/metrics", Access::Global(Role::Viewer)),
    reads("/blobs/", Access::Signed).open_ended(),
    // A delivery's line is in its trigger's history.
    reads("/hooks/", Access::Signed),
    reads("/results/", Access::Signed).open_ended(),
];

/// The rule of a request's path.
pub fn of(path: &str) -> Option<&'static Rule> {
    let exact = RULES.iter().find(|rule| rule.path == path);
    exact.or_else(|| RULES.iter().find(|rule| rule.path.ends_with('/') && path.starts_with(rule.path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    /// Every method of every service of the published descriptors.
    fn methods() -> Vec<String> {
        let set =
            prost_types::FileDescriptorSet::decode(longshore_proto::DESCRIPTOR_SET).expect("it is ours");
        let mut methods = Vec::new();
        for file in set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_has_one_row_and_every_row_of_ours_is_a_method() {
        let methods = methods();
        assert!(methods.len() > 30, "{methods:?}");
        for method in &methods {
            assert_eq!(RULES.iter().filter(|rule| rule.path == method).count(), 1, "{method}");
        }
        for rule in RULES.iter().filter(|rule| rule.path.starts_with("/longshore.")) {
            assert!(methods.iter().any(|method| method == rule.path), "{} is no method", rule.path);
        }
    }

    #[test]
    fn nothing_that_changes_is_open_and_paths_are_matched_whole() {
        assert!(RULES.iter().filter(|rule| rule.changes).all(|rule| rule.access != Access::Open));
        assert!(of("/blobs/a/b").is_some_and(|rule| rule.access == Access::Signed));
        for path in ["/", "/blobs", "/longshore.v1.Jobs/Submit/x", "/longshore.v1.Jobs/submit", "/healthz/x"]
        {
            assert!(of(path).is_none(), "{path}");
        }
    }
}
