//! What does not take a broker; the live stories have one.

use super::*;

#[test]
fn a_password_is_hashed_as_rabbitmq_does_it() {
    // The example of its documentation.
    let hashed = salted(&[0x90, 0x8d, 0xc6, 0x0a], "test12");
    assert_eq!(hashed, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    assert_eq!(hash("x"), hash("x"));
    assert_ne!(hash("x"), hash("y"));
}

#[test]
fn users_of_addresses_are_read_as_they_are_meant() {
    let of = |text: &str| login(&text.parse().expect("an address"));
    assert_eq!(of("amqp://anna:p%40ss@h/%2f"), Some(("anna".to_owned(), "p@ss".to_owned())));
    assert_eq!(of("http://h:15672"), None);
}

#[test]
fn whoever_may_do_more_than_read_its_lanes_is_mended() {
    let account = Account { name: "a".to_owned(), hash: "h".to_owned(), read: "^(x)$".to_owned() };
    let user = |text: &str| -> User { serde_json::from_str(text).expect("a user") };
    assert!(account.is(&user(r#"{"name": "a", "password_hash": "h", "tags": []}"#)));
    assert!(account.is(&user(r#"{"name": "a", "tags": ""}"#)));
    assert!(!account.is(&user(r#"{"name": "a", "password_hash": "other", "tags": []}"#)));
    assert!(!account.is(&user(r#"{"name": "a", "password_hash": "h", "tags": ["administrator"]}"#)));
    let may = |configure: &str, write: &str, read: &str| Permission {
        user: "a".to_owned(),
        vhost: "/".to_owned(),
        configure: configure.to_owned(),
        write: write.to_owned(),
        read: read.to_owned(),
    };
    assert!(account.may(&may("^$", "^$", "^(x)$")));
    for more in [may(".*", "^$", "^(x)$"), may("^$", ".*", "^(x)$"), may("^$", "^$", ".*"), may("", "", "")] {
        assert!(!account.may(&more), "{more:?}");
    }
}

#[test]
fn the_management_address_is_shown_without_its_user() {
    let login = || ("u".to_owned(), "p".to_owned());
    let url = "https://anna:hunter2@h:15671/mq/?x=1".parse().expect("an address");
    assert_eq!(Management::new(&url, login()).expect("good").place(), "https://h:15671/mq/");
    for wrong in ["amqp://h", "file:///x"] {
        assert!(Management::new(&wrong.parse().expect("an address"), login()).is_err(), "{wrong}");
    }
}
