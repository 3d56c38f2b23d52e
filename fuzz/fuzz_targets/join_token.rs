//! A text that reads as a join token or an agent's key is exactly that one's text; everything else is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_common::credential::{AgentKey, JoinToken, JoinTokenId};

fuzz_target!(|text: &str| {
    // With the head, so that it is not all spent on finding that.
    for text in [text.to_owned(), format!("lsj_{text}"), format!("lsk_{text}")] {
        if let Ok(token) = text.parse::<JoinToken>() {
            assert_eq!(token.reveal(), text.trim());
        }
        if let Ok(key) = text.parse::<AgentKey>() {
            assert_eq!(key.reveal(), text);
        }
        if let Ok(id) = text.parse::<JoinTokenId>() {
            assert_eq!(id.to_string(), text.to_ascii_lowercase());
        }
    }
});
