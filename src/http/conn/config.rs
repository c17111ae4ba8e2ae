//! The limits of a server, as its builder methods set them.

use std::time::Duration;

use crate::http::background::Limits;
use crate::http::wire::chunked::BodyLimits;
use crate::http::wire::parse;

/// What the builder methods set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) head: parse::Limits,
    pub(crate) chunks: BodyLimits,
    pub(crate) header_timeout: Duration,
    pub(crate) header_rate: u32,
    pub(crate) header_grace: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) body_rate: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) write_rate: u32,
    pub(crate) max_body: u64,
    pub(crate) max_buffer: usize,
    pub(crate) max_requests: u32,
    pub(crate) max_connections: usize,
    pub(crate) drain_limit: Duration,
    pub(crate) tasks: Limits,
}
