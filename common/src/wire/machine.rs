//! What a job asks of machines: resources, GPUs and labels of agents.

use super::{WireError, text};
use crate::fields::FieldErrors;
use crate::job::{AgentRule, GpuRequest, LabelTest, Resources, Version};
use longshore_proto::v1;

/// Replaces what the message names.
pub fn overlay_resources(resources: &mut Resources, message: &v1::Resources, errors: &mut FieldErrors) {
    let v1::Resources { cpu_millis, memory_bytes, shm_bytes, scratch_bytes, pids, gpu, exclusive } = message;
    set(&mut resources.cpu_millis, *cpu_millis);
    set(&mut resources.memory_bytes, *memory_bytes);
    set(&mut resources.shm_bytes, *shm_bytes);
    set(&mut resources.scratch_bytes, *scratch_bytes);
    set(&mut resources.pids, *pids);
    set(&mut resources.exclusive, *exclusive);
    if let Some(gpu) = gpu {
        resources.gpu = Some(read_gpu(gpu.clone(), errors));
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn read_gpu(message: v1::GpuRequest, errors: &mut FieldErrors) -> GpuRequest {
    let v1::GpuRequest {
        count,
        memory_bytes,
        model,
        mut models,
        capability,
        driver,
        cuda,
        mig,
        nvlink,
        shared,
    } = message;
    if models.is_empty() {
        models.extend(text(model));
    }
    let mut least = |name: &str, version: String| {
        let version = text(version)?.parse::<Version>();
        errors
            .take(version.map_err(|error| WireError::new(format!("resources.gpu.{name}"), error.to_string())))
    };
    GpuRequest {
        count,
        memory_bytes,
        model: models,
        capability: least("capability", capability),
        driver: least("driver", driver),
        cuda: least("cuda", cuda),
        mig: text(mig),
        nvlink,
        shared,
    }
}

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> Self {
        Self {
            cpu_millis: Some(resources.cpu_millis),
            memory_bytes: Some(resources.memory_bytes),
            shm_bytes: Some(resources.shm_bytes),
            scratch_bytes: Some(resources.scratch_bytes),
            pids: Some(resources.pids),
            gpu: resources.gpu.as_ref().map(v1::GpuRequest::from),
            exclusive: Some(resources.exclusive),
        }
    }
}

impl From<&GpuRequest> for v1::GpuRequest {
    fn from(gpu: &GpuRequest) -> Self {
        let version =
            |version: &Option<Version>| version.as_ref().map(ToString::to_string).unwrap_or_default();
        // One alone is also where versions look that know of one only.
        let single = match &gpu.model[..] {
            [only] if !only.starts_with('!') => only.clone(),
            _ => String::new(),
        };
        Self {
            count: gpu.count,
            memory_bytes: gpu.memory_bytes,
            model: single,
            models: gpu.model.clone(),
            capability: version(&gpu.capability),
            driver: version(&gpu.driver),
            cuda: version(&gpu.cuda),
            mig: gpu.mig.clone().unwrap_or_default(),
            nvlink: gpu.nvlink,
            shared: gpu.shared,
        }
    }
}

pub(super) fn read_rules(messages: Vec<v1::AgentRule>, errors: &mut FieldErrors) -> Vec<AgentRule> {
    messages.into_iter().filter_map(|message| errors.take(read_rule(message))).collect()
}

fn read_rule(message: v1::AgentRule) -> Result<AgentRule, WireError> {
    use v1::LabelOperator as Operator;
    let v1::AgentRule { label, operator, values } = message;
    let wrong = |problem: String| Err(WireError::new(format!("agents.{label}"), problem));
    let number = |values: &[String]| match values {
        [only] => only.parse::<i64>().ok(),
        _ => None,
    };
    let test = match Operator::try_from(operator) {
        Ok(Operator::In) => LabelTest::In(values),
        Ok(Operator::NotIn) => LabelTest::NotIn(values),
        Ok(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            return wrong("is asked for with values: whether it exists takes none".to_owned());
        }
        Ok(Operator::Exists) => LabelTest::Exists,
        Ok(Operator::DoesNotExist) => LabelTest::DoesNotExist,
        Ok(compared @ (Operator::Gt | Operator::Lt)) => match number(&values) {
            Some(bound) if compared == Operator::Gt => LabelTest::Gt(bound),
            Some(bound) => LabelTest::Lt(bound),
            None => return wrong("is compared with one whole number".to_owned()),
        },
        Ok(Operator::Unspecified) | Err(_) => return wrong(format!("{operator} is not an operator")),
    };
    Ok(AgentRule { label, test })
}

impl From<&AgentRule> for v1::AgentRule {
    fn from(rule: &AgentRule) -> Self {
        use v1::LabelOperator as Operator;
        let (operator, values) = match &rule.test {
            LabelTest::In(any) => (Operator::In, any.clone()),
            LabelTest::NotIn(none) => (Operator::NotIn, none.clone()),
            LabelTest::Exists => (Operator::Exists, Vec::new()),
            LabelTest::DoesNotExist => (Operator::DoesNotExist, Vec::new()),
            LabelTest::Gt(bound) => (Operator::Gt, vec![bound.to_string()]),
            LabelTest::Lt(bound) => (Operator::Lt, vec![bound.to_string()]),
        };
        Self { label: rule.label.clone(), operator: operator as i32, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_reads_back_and_nonsense_is_told() {
        let some = vec!["a".to_owned()];
        let rules: Vec<_> = [
            LabelTest::In(some.clone()),
            LabelTest::NotIn(some),
            LabelTest::Exists,
            LabelTest::DoesNotExist,
            LabelTest::Gt(-3),
            LabelTest::Lt(9),
        ]
        .map(|test| AgentRule::new("rack", test))
        .into();
        let mut messages: Vec<_> = rules.iter().map(v1::AgentRule::from).collect();
        let mut errors = FieldErrors::new();
        assert_eq!(read_rules(messages.clone(), &mut errors), rules);
        messages[2].values = vec!["x".into()];
        messages[4].values = vec!["many".into()];
        messages[5].operator = 77;
        assert_eq!(read_rules(messages, &mut errors).len(), 3);
        assert_eq!(errors.iter().count(), 3, "{errors:?}");
    }

    #[test]
    fn a_request_reads_back_and_one_of_an_older_client_is_read() {
        let asked = GpuRequest {
            memory_bytes: 5,
            model: vec!["A100*".into(), "!*PCIe*".into()],
            capability: "8.0".parse().ok(),
            driver: "535".parse().ok(),
            cuda: "12.2".parse().ok(),
            mig: Some("1g.10gb".into()),
            nvlink: true,
            shared: true,
            ..GpuRequest::of(2)
        };
        let mut errors = FieldErrors::new();
        assert_eq!(read_gpu((&asked).into(), &mut errors), asked);
        let old = v1::GpuRequest { count: 1, model: "T4".into(), ..v1::GpuRequest::default() };
        assert_eq!(read_gpu(old, &mut errors).model, ["T4"]);
        assert!(errors.is_empty());
        let bad = v1::GpuRequest { count: 1, cuda: "new".into(), ..v1::GpuRequest::default() };
        read_gpu(bad, &mut errors);
        assert_eq!(errors.iter().next().map(|error| error.path.as_str()), Some("resources.gpu.cuda"));
    }
}
