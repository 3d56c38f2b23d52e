//! The example configurations must be what the program reads, with their commented parts too.

use longshore_agent::AgentConfig;
use longshore_controller::ControllerConfig;

#[test]
fn the_example_configurations_are_valid_with_every_part_in_use() {
    let controller = uncommented(include_str!("../../deploy/config/controller.toml"));
    let controller: ControllerConfig = toml::from_str(&controller).expect("controller.toml");
    assert!(controller.rabbitmq.is_some() && controller.s3.is_some());
    let agent: AgentConfig =
        toml::from_str(&uncommented(include_str!("../../deploy/config/agent.toml"))).expect("agent.toml");
    assert!(!agent.runtime.registries.is_empty() && !agent.container_env.is_empty());
}

/// Lines that are settings behind a `#` become settings.
fn uncommented(text: &str) -> String {
    let setting = |line: &str| line.starts_with('[') || line.contains(" = ");
    text.lines().map(|line| line.strip_prefix("# ").filter(|rest| setting(rest)).unwrap_or(line)).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    )
}
