//! No method, key and query opens anything but the ones that were signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_controller::blobs::ticket::Signer;

fuzz_target!(|input: (&str, &str)| {
    let (key, query) = input;
    let signer = Signer::new(b"a key that nobody has");
    for method in [http::Method::GET, http::Method::PUT] {
        assert!(signer.verify(&method, key, query, 1).is_err(), "{method} {key} {query}");
    }
});
