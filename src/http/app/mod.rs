//! From a request to a handler's parameters, and from its output to a response.
//!
//! | file | contents |
//! | --- | --- |
//! | `body`, `request`, `response`, `upgraded`, `delivery` | a handler's input and output |
//! | `extensions`, `settings` | values by type; the settings of routes and handlers |
//! | `path`, `extract`, `rejection`, `error` | from a request to parameters, and from errors to responses |
//! | `call`, `middleware`, `endpoint`, `handler` | a function that takes requests, the layers around it, and the conversion into one |
//! | `pattern`, `route`, `router` | which handler a path leads to |
//! | `problem` | the form of error responses |
//! | `files`, `conditional`, `sse` | responses ready-made: files, conditions and ranges, events |
//!
//! Nothing here knows connections: the folder above calls a handler and sends its response.

pub(super) mod body;
pub(super) mod call;
mod conditional;
pub(super) mod delivery;
pub(super) mod endpoint;
pub(super) mod error;
pub(super) mod extensions;
pub(super) mod extract;
pub mod files;
pub(super) mod handler;
pub mod middleware;
mod path;
mod pattern;
pub(super) mod problem;
pub(super) mod rejection;
pub(super) mod request;
pub(super) mod response;
pub(super) mod route;
pub(super) mod router;
mod settings;
pub(super) mod sse;
pub(super) mod upgraded;
