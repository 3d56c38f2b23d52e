//! What the node's operator demands of every container, over what its job asks for. Tightens, never widens.

use crate::runtime;
use longshore_common::job::{JobSpec, NetworkMode, Security};

#[derive(Clone, Copy, Debug)]
pub struct Walls {
    security: Security,
    egress: NetworkMode,
}

impl Walls {
    pub const fn new(config: &runtime::Config) -> Self {
        Self { security: config.security, egress: config.network.egress }
    }

    pub(super) fn security(self, spec: &JobSpec) -> Security {
        self.security.max(spec.security)
    }

    pub(super) const fn network(self, spec: &JobSpec) -> NetworkMode {
        match (self.egress, spec.network) {
            (NetworkMode::None, _) | (_, NetworkMode::None) => NetworkMode::None,
            (NetworkMode::Internet, _) | (_, NetworkMode::Internet) => NetworkMode::Internet,
            (NetworkMode::Bridge, NetworkMode::Bridge) => NetworkMode::Bridge,
        }
    }

    /// What a job gets otherwise than it asked, for its log.
    pub(super) fn told(self, spec: &JobSpec) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if self.security(spec) != spec.security {
            lines.push("this node runs every container restricted: it has no capability");
        }
        match self.network(spec) {
            same if same == spec.network => {}
            NetworkMode::None => lines.push("this node gives containers no network"),
            _ => lines.push("this node lets containers reach public addresses only"),
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_of_node_and_job_holds_and_is_told() {
        use NetworkMode::{Bridge, Internet, None};
        let with = |egress, network| {
            let mut spec = JobSpec::for_image("app");
            spec.network = network;
            let walls = Walls { security: Security::Baseline, egress };
            (walls.network(&spec), walls.told(&spec).len())
        };
        for (node, job, held, lines) in [
            (Bridge, Bridge, Bridge, 0),
            (Bridge, Internet, Internet, 0),
            (Bridge, None, None, 0),
            (Internet, Bridge, Internet, 1),
            (Internet, None, None, 0),
            (None, Bridge, None, 1),
            (None, Internet, None, 1),
        ] {
            assert_eq!(with(node, job), (held, lines), "{node:?} {job:?}");
        }
        let strict = Walls { security: Security::Restricted, egress: Bridge };
        let lax = Walls { security: Security::Baseline, egress: Bridge };
        let mut spec = JobSpec::for_image("app");
        assert_eq!((strict.security(&spec), strict.told(&spec).len()), (Security::Restricted, 1));
        assert_eq!(lax.security(&spec), Security::Baseline);
        spec.security = Security::Restricted;
        assert_eq!((strict.security(&spec), strict.told(&spec).len()), (Security::Restricted, 0));
        assert_eq!(lax.security(&spec), Security::Restricted);
    }
}
