//! The repository's rules as tests: layers, sizes, names, links. Reads files only; depends on nothing but `std`.
//! Each rule is a function from the repository to a list of violations; `tests/rules.rs` holds that every list is empty.

pub mod layers;
pub mod links;
pub mod purity;
pub mod repository;
pub mod sizes;
pub mod texts;

pub use repository::{File, Repository};
