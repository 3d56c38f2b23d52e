//! What every runtime must do, as one suite that runs on each of them.

use super::{ContainerSpec, ImageId, Scratch};
use longshore_common::{
    ids::{AgentId, AttemptRef, ClusterId, Epoch, JobId, ShortId},
    job::{NetworkMode, Resources},
};
use std::{collections::BTreeMap, time::Duration};

/// A spec with nothing asked for.
pub fn sample_spec() -> ContainerSpec {
    let job = JobId::new();
    ContainerSpec {
        attempt: AttemptRef { job, number: 1, epoch: Epoch(1) },
        short_id: ShortId::random(),
        cluster: ClusterId::new(),
        agent: AgentId::new(),
        image: ImageId("sha256:3f9c01d2".to_owned()),
        image_name: "app:2".to_owned(),
        entrypoint: None,
        command: None,
        workdir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources::default(),
        gpus: Vec::new(),
        network: NetworkMode::None,
        stop_grace: Duration::from_secs(10),
        scratch: Scratch {
            out: format!("/tmp/longshore/{job}/out").into(),
            tmp: format!("/tmp/longshore/{job}/tmp").into(),
            inputs: BTreeMap::new(),
        },
    }
}
