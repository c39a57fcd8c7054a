//! Any text as a tag expression: it is refused with a reason or compiled, and then every tag that it names passes.

#![no_main]

use broker_model::{Filter, tag_hash};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Filter::parse_tags(text) {
        Ok(filter) => {
            for tag in text.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
                assert!(filter.matches(tag_hash(Some(tag))), "{tag:?} does not pass {text:?}");
            }
            assert_eq!(filter.matches(tag_hash(None)), filter == Filter::All);
            assert!(filter.as_sql().is_none());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
