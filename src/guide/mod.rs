//! The pages of `docs/`, as they stand in the repository.
//!
//! | | |
//! |---|---|
//! | [`coroutines`] | several things at once on one thread: tasks, scopes, stopping |
//! | [`iterators`] | async iterators: generators, coroutines, adapters |
//! | [`background`] | background tasks and the deferred queue, as a tutorial |
//! | [`from_fastapi`] | FastAPI's and Starlette's background tasks and what replaces them |
//! | [`from_python`] | each construct of asyncio and what replaces it |
//! | [`running`] | the server as a service: proxies, TLS, systemd, containers, stops |
//! | [`contract`] | what you can rely on, and what you cannot |
//! | [`design`] | why it is built this way |
//! | [`ecosystem`] | other crates: which work, and four rules for the rest |
//! | [`glossary`] | the words, each with its file |
//! | [`policy`] | Rust versions, platforms, semantic versioning |
//! | [`reading`] | two routes through the source: one hour, and everything |
//!
//! # How the links work
//!
//! A page names another page, a file or an item as `[label]`, and defines every label on its last
//! lines with a path that a Markdown viewer follows. Here each page is preceded by
//! `src/guide/links.md`, which defines the same labels for rustdoc. The first definition of a label
//! wins, so the page's own definitions do nothing here. `tests/docs.rs` checks that both lists have
//! the label and that the paths exist.
//!
//! Every block of Rust code on these pages stands by itself, with its imports, and `cargo test
//! --doc` compiles and runs it. Pages that use the server are not tested without the feature
//! `http`.

#[doc = include_str!("links.md")]
#[cfg_attr(any(feature = "http", not(doctest)), doc = include_str!("../../docs/background.md"))]
pub mod background {}

#[doc = include_str!("links.md")]
#[cfg_attr(any(feature = "http", not(doctest)), doc = include_str!("../../docs/from-fastapi.md"))]
pub mod from_fastapi {}

#[doc = include_str!("links.md")]
#[cfg_attr(any(all(feature = "http", feature = "signal"), not(doctest)), doc = include_str!("../../docs/running.md"))]
pub mod running {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/contract.md")]
pub mod contract {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/coroutines.md")]
pub mod coroutines {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/design.md")]
pub mod design {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/from-python.md")]
pub mod from_python {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/iterators.md")]
pub mod iterators {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/reading.md")]
pub mod reading {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/ecosystem.md")]
pub mod ecosystem {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/glossary.md")]
pub mod glossary {}

#[doc = include_str!("links.md")]
#[doc = include_str!("../../docs/policy.md")]
pub mod policy {}
