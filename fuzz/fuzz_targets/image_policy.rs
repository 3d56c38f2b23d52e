//! Patterns and references: no panic, a pattern means what its text reads back as, and deny wins over allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_common::job::{ImagePolicy, Pattern};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, image) = input;
    let Ok(pattern) = pattern.parse::<Pattern>() else { return };
    let again: Pattern = pattern.to_string().parse().expect("its own text");
    assert_eq!(pattern, again);
    let allowed = ImagePolicy { allow: vec![pattern.clone()], ..ImagePolicy::default() };
    let denied = ImagePolicy { deny: vec![pattern.clone()], ..ImagePolicy::default() };
    let both = ImagePolicy { allow: vec![pattern.clone()], deny: vec![pattern], ..ImagePolicy::default() };
    if allowed.check(image).is_ok() {
        assert!(denied.check(image).is_err(), "what is allowed by it is denied by it");
    }
    assert!(both.check(image).is_err(), "deny wins");
});
