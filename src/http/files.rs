//! Files as answers: read on the blocking pool in bounded pieces, with validators and conditional answers.
//!
//! Paths of a request are decoded segment by segment; a segment that begins with a dot or has a separator in it is not found, and neither is what a
//! symbolic link leads out of the root to.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::UNIX_EPOCH;

use futures_core::Stream;

use super::path::decode;
use super::request::Request;
use super::response::Response;
use crate::JoinHandle;
use crate::blocking::spawn_blocking;

/// What is in memory of a file at a time.
const PIECE: u64 = 64 * 1024;

type Read1 = JoinHandle<(File, io::Result<Vec<u8>>)>;

/// A file's bytes; holds either the file or the read that has it.
struct Pieces {
    file: Option<File>,
    reading: Option<Read1>,
}

impl Stream for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(file) = self.file.take() {
            self.reading = Some(spawn_blocking(move || {
                let mut piece = Vec::new();
                let read = (&file).take(PIECE).read_to_end(&mut piece);
                (file, read.map(|_| piece))
            }));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(match read {
            Ok((_, Ok(piece))) if piece.is_empty() => None,
            Ok((file, piece)) => {
                self.file = piece.is_ok().then_some(file);
                Some(piece)
            }
            Err(_) => Some(Err(io::Error::other("reading the file panicked"))),
        })
    }
}

/// Answers a request with the file that its path names below a directory, of which `prefix` is what stands before that name; `index.html` for
/// a directory. 404 if there is none, 304 if the client's `If-None-Match` has it already.
///
/// # Cancel safety
///
/// Dropping the future loses nothing; a read that runs ends by itself.
///
/// ```
/// use postlude::http::{Request, Router, files};
/// let router = Router::new().get("/static/{*file}", async |request: Request| {
///     files::serve("/srv/www", "/static", &request).await
/// });
/// ```
pub async fn serve(root: impl Into<PathBuf>, prefix: &str, request: &Request) -> Response {
    let root = root.into();
    let Some(relative) = request.path().strip_prefix(prefix).and_then(relative) else { return missing() };
    let opened = spawn_blocking(move || open(&root, &relative)).await;
    let Ok(Ok((file, tag, kind))) = opened else { return missing() };
    let known = request.field("if-none-match").and_then(|tags| std::str::from_utf8(tags).ok());
    if known.is_some_and(|tags| {
        tags.split(',').any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag)
    }) {
        return Response::new(304).with_field("etag", tag);
    }
    Response::stream(Pieces { file: Some(file), reading: None })
        .with_field("content-type", kind)
        .with_field("etag", tag)
}

fn missing() -> Response {
    Response::text(http::StatusCode::NOT_FOUND, "there is no such file")
}

/// The path below the root; None if it must not be looked for.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = decode(segment).ok()?;
        if name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return None;
        }
        relative.push(&*name);
    }
    Some(relative)
}

fn open(root: &Path, relative: &Path) -> io::Result<(File, String, &'static str)> {
    let root = root.canonicalize()?;
    let mut path = root.join(relative).canonicalize()?;
    if path.is_dir() {
        path = path.join("index.html").canonicalize()?;
    }
    let data = fs::metadata(&path)?;
    if !path.starts_with(&root) || !data.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let changed = data.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let kind = kind_of(path.extension().and_then(|end| end.to_str()).unwrap_or_default());
    Ok((File::open(&path)?, format!("\"{:x}-{changed:x}\"", data.len()), kind))
}

fn kind_of(extension: &str) -> &'static str {
    match extension {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
