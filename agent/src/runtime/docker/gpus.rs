//! How a container is given its GPUs: by UUID, as Docker's own `nvidia` request or by CDI, whichever the engine has.
//! Never which GPUs.

use crate::runtime::{ContainerSpec, GpuBy};
use bollard::models::{DeviceInfo, DeviceRequest, SystemInfo};
use std::{fs, path::Path};

/// NVIDIA's devices in the Container Device Interface.
const CDI_KIND: &str = "nvidia.com/gpu";
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// What a container is asked for with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Nvidia,
    Cdi,
}

impl Way {
    /// By what the engine says of itself. Where both would do it is `nvidia`, which needs no list of the devices.
    pub(super) fn of_engine(info: &SystemInfo) -> Self {
        let has_runtime = info.runtimes.as_ref().is_some_and(|runtimes| runtimes.contains_key("nvidia"));
        let is_ours = |device: &DeviceInfo| {
            device
                .id
                .as_ref()
                .and_then(|id| id.strip_prefix(CDI_KIND))
                .is_some_and(|rest| rest.starts_with('='))
        };
        let lists = info.discovered_devices.iter().flatten().any(is_ours);
        let folders = info.cdi_spec_dirs.iter().flatten();
        if !has_runtime && (lists || folders.into_iter().any(|folder| describes(Path::new(folder)))) {
            Self::Cdi
        } else {
            Self::Nvidia
        }
    }

    pub(super) fn chosen(self, by: GpuBy) -> Self {
        match by {
            GpuBy::Auto => self,
            GpuBy::Nvidia => Self::Nvidia,
            GpuBy::Cdi => Self::Cdi,
        }
    }

    pub(super) fn request(self, spec: &ContainerSpec) -> Option<Vec<DeviceRequest>> {
        if spec.gpus.is_empty() {
            return None;
        }
        Some(vec![match self {
            Self::Nvidia => DeviceRequest {
                driver: Some("nvidia".to_owned()),
                device_ids: Some(spec.gpus.clone()),
                // No more than that, so that the image's own NVIDIA_DRIVER_CAPABILITIES decides.
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..DeviceRequest::default()
            },
            Self::Cdi => DeviceRequest {
                driver: Some("cdi".to_owned()),
                device_ids: Some(spec.gpus.iter().map(|uuid| format!("{CDI_KIND}={uuid}")).collect()),
                ..DeviceRequest::default()
            },
        }])
    }

    /// In place of what the job or the image says. On nodes whose default runtime is NVIDIA's that would be obeyed;
    /// what CDI gives is all there, and that runtime must add nothing.
    pub(super) fn visible(self, spec: &ContainerSpec, env: &mut Vec<String>) {
        env.retain(|entry| entry.split('=').next() != Some(VISIBLE));
        let visible = match self {
            Self::Nvidia if !spec.gpus.is_empty() => spec.gpus.join(","),
            Self::Nvidia | Self::Cdi => "void".to_owned(),
        };
        env.push(format!("{VISIBLE}={visible}"));
    }
}

/// Whether one of the folder's files names NVIDIA's devices. JSON or YAML, the kind stands there as it is.
fn describes(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|text| text.contains(CDI_KIND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::contract::sample_spec;
    use std::collections::HashMap;

    fn spec(gpus: &[&str]) -> ContainerSpec {
        let mut spec = sample_spec();
        spec.gpus = gpus.iter().map(|&uuid| uuid.to_owned()).collect();
        spec
    }

    fn visible(way: Way, spec: &ContainerSpec) -> String {
        let mut env = vec!["NVIDIA_VISIBLE_DEVICES=all".to_owned(), "NVIDIA_VISIBLE_DEVICES_X=1".to_owned()];
        way.visible(spec, &mut env);
        assert_eq!(env[0], "NVIDIA_VISIBLE_DEVICES_X=1");
        assert_eq!(env.len(), 2, "{env:?}");
        env.remove(1)
    }

    #[test]
    fn gpus_are_asked_for_by_uuid_in_the_engines_way() {
        let spec = spec(&["GPU-1", "MIG-2"]);
        let [nvidia] = Way::Nvidia.request(&spec).expect("asked").try_into().expect("one");
        assert_eq!(nvidia.driver.as_deref(), Some("nvidia"));
        assert_eq!(nvidia.device_ids.expect("named"), ["GPU-1", "MIG-2"]);
        assert_eq!((nvidia.capabilities, nvidia.count), (Some(vec![vec!["gpu".to_owned()]]), None));
        let [cdi] = Way::Cdi.request(&spec).expect("asked").try_into().expect("one");
        assert_eq!((cdi.driver.as_deref(), cdi.capabilities), (Some("cdi"), None));
        assert_eq!(cdi.device_ids.expect("named"), ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=MIG-2"]);
        assert_eq!(visible(Way::Nvidia, &spec), "NVIDIA_VISIBLE_DEVICES=GPU-1,MIG-2");
        assert_eq!(visible(Way::Cdi, &spec), "NVIDIA_VISIBLE_DEVICES=void");
    }

    #[test]
    fn without_a_grant_there_is_no_request_and_nothing_to_be_seen() {
        for way in [Way::Nvidia, Way::Cdi] {
            assert_eq!(way.request(&spec(&[])), None);
            assert_eq!(visible(way, &spec(&[])), "NVIDIA_VISIBLE_DEVICES=void");
        }
    }

    #[test]
    fn the_engine_decides_unless_the_operator_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let dirs = Some(vec!["/no/such/folder".to_owned(), folder.path().display().to_string()]);
        let info = || SystemInfo { cdi_spec_dirs: dirs.clone(), ..SystemInfo::default() };
        assert_eq!(Way::of_engine(&SystemInfo::default()), Way::Nvidia);
        assert_eq!(Way::of_engine(&info()), Way::Nvidia, "the folders are there and empty");
        let text = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n";
        fs::write(folder.path().join("nvidia.yaml"), text).expect("written");
        assert_eq!(Way::of_engine(&info()), Way::Cdi);
        let runtimes = Some(HashMap::from([("nvidia".to_owned(), bollard::models::Runtime::default())]));
        assert_eq!(Way::of_engine(&SystemInfo { runtimes, ..info() }), Way::Nvidia);
        let listed = DeviceInfo { id: Some("nvidia.com/gpu=0".to_owned()), source: Some("cdi".to_owned()) };
        let lists = SystemInfo { discovered_devices: Some(vec![listed]), ..SystemInfo::default() };
        assert_eq!(Way::of_engine(&lists), Way::Cdi);
        assert_eq!(Way::Cdi.chosen(GpuBy::Nvidia), Way::Nvidia);
        assert_eq!((Way::Nvidia.chosen(GpuBy::Cdi), Way::Cdi.chosen(GpuBy::Auto)), (Way::Cdi, Way::Cdi));
    }
}
