//! Serves files: conditional requests, ranges, and directories.
//!
//! [`Dir`] says which files are found and how a request is answered. The blocking pool opens the
//! file. Its kind, length and time come from the open handle, because the path may lead elsewhere
//! by then. The pool also reads the bytes, a piece at a time, while the previous piece is being
//! written.
//!
//! # How it works
//!
//! 1. `relative`: turn the request's path into one below the root, or refuse it.
//! 2. `open`: open the file, then check that the path without symbolic links is below the root and
//!    is still the same file.
//! 3. `answer`: decide whether to send the whole, a part, 304, 412 or 416.
//! 4. `FilePieces`: read the bytes.
//!
//! # Invariants
//!
//! - `Content-Length` is the handle's length. If the file becomes shorter, the connection breaks
//!   off; if it grows, the rest is not sent.
//! - Nothing outside the root is sent, even if files are renamed or linked meanwhile. Hard links
//!   cannot be told apart from files.
//! - Opening never waits: otherwise a named pipe without a writer would block a thread of the pool.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_core::Stream;
use http::StatusCode;

use super::conditional::{Known, Verdict, decide};
use super::handler::Handler;
use super::path::decode;
use super::request::Request;
use super::response::Response;
use crate::JoinHandle;
use crate::blocking::spawn_blocking;

/// Bytes of a file that are read at once.
const PIECE: u64 = 64 * 1024;
/// The age from which a change has a time of its own: file systems count in steps of up to two
/// seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Serves the files of a directory: a handler for a route that ends in `{*path}`, or for the path
/// of the directory itself.
///
/// The name of the file is the path's last parameter, if the path ends with it; otherwise the
/// directory's index is served. The responses:
///
/// - 200 with the file, `Content-Type` by the name's extension, `Content-Length`, `ETag`,
///   `Last-Modified` and `Accept-Ranges: bytes`.
/// - 206 for one range if `If-Range` allows it, and 416 for a range beyond the end. For several
///   ranges the whole file is sent, which HTTP allows.
/// - 304 and 412 by `If-None-Match`, `If-Modified-Since`, `If-Match` and `If-Unmodified-Since`.
/// - For a directory its index. If the path has no `/` at its end, a 301 adds it. Directories are
///   never listed.
/// - 404 for everything else: names that begin with a dot, except `.well-known`; names that contain
///   `/`, `\` or a null; empty segments; unreadable files, pipes and devices; and symbolic links
///   that lead out of the directory. Links within it are followed.
///
/// The entity tag consists of the file's length and modification time, so a file must not be
/// replaced by one of the same length and time. The tag is weak for two seconds after a change,
/// because another change might not show.
///
/// ```
/// use postlude::http::{Router, files::Dir};
/// let site = Dir::new("/srv/www");
/// let router = Router::new().get("/", site.clone()).get("/{*path}", site);
/// ```
#[derive(Clone, Debug)]
pub struct Dir {
    root: PathBuf,
    index: Option<String>,
}

impl Dir {
    /// Serves this directory. Opens nothing yet; a directory that does not exist has no files.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), index: Some("index.html".to_owned()) }
    }

    /// Sets the file to send for a directory: by default `index.html`. With `None` a directory is a
    /// 404.
    #[must_use]
    pub fn index<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.index = name.into().map(str::to_owned);
        self
    }

    /// Answers with the file at `path` below the directory, which may be percent-encoded. For a
    /// handler that examines the request first.
    ///
    /// Dropping the future loses nothing; an opening that has begun ends on the pool.
    ///
    /// # Panics
    ///
    /// As [`spawn_blocking`](crate::spawn_blocking), if awaited outside a runtime.
    ///
    /// ```
    /// use postlude::http::{Request, Response, Router, files::Dir};
    /// let private = Dir::new("private");
    /// let router = Router::new().get("/private/{*path}", async move |request: Request| {
    ///     let Some(path) = request.path().strip_prefix("/private/") else { return Response::new(404) };
    ///     if request.field("authorization").is_none() {
    ///         return Response::new(401).with_field("www-authenticate", "Basic");
    ///     }
    ///     private.serve(path, &request).await
    /// });
    /// ```
    pub async fn serve(&self, path: &str, request: &Request) -> Response {
        let Some(relative) = relative(path) else { return missing() };
        let (root, index) = (self.root.clone(), self.index.clone());
        let slash = if path.is_empty() { request.path().ends_with('/') } else { path.ends_with('/') };
        match spawn_blocking(move || open(&root, &relative, slash, index.as_deref())).await {
            Ok(Ok(FileLookup::File(opened))) => answer(request, opened),
            Ok(Ok(FileLookup::Directory)) => with_slash(request),
            Ok(Err(error)) if is_missing(&error) => missing(),
            Ok(Err(_)) | Err(_) => unreadable(),
        }
    }
}

#[diagnostic::do_not_recommend]
impl Handler<(Request,)> for Dir {
    type Output = Response;

    async fn call(&self, (request,): (Request,)) -> Response {
        self.serve(rest_of(&request), &request).await
    }
}

/// Returns the last parameter if the path ends with it, else an empty name.
fn rest_of(request: &Request) -> &str {
    let last = request.parameters().last().map(|(_, value)| value);
    last.filter(|value| value.as_bytes().as_ptr_range().end == request.path().as_bytes().as_ptr_range().end)
        .unwrap_or_default()
}

/// Answers with the file of a directory that the request's path names after `prefix`: see
/// [`Dir::serve`].
///
/// ```
/// use postlude::http::{Request, Router, files};
/// let router = Router::new().get("/static/{*file}", async |request: Request| {
///     files::serve("/srv/www", "/static", &request).await
/// });
/// ```
pub async fn serve(root: impl Into<PathBuf>, prefix: &str, request: &Request) -> Response {
    let Some(rest) = request.path().strip_prefix(prefix.trim_end_matches('/')) else { return missing() };
    if !rest.is_empty() && !rest.starts_with('/') {
        return missing();
    }
    Dir::new(root).serve(rest.strip_prefix('/').unwrap_or_default(), request).await
}

/// Answers with one file. Conditions, ranges and headers are as for [`Dir`].
///
/// Dots and symbolic links in the path are followed, so it must not come from the request. Panics
/// and cancellation are as for [`Dir::serve`].
pub async fn file(path: impl Into<PathBuf>, request: &Request) -> Response {
    let path = path.into();
    match spawn_blocking(move || Opened::new(&path)).await {
        Ok(Ok(opened)) if opened.data.is_file() => answer(request, opened),
        Ok(Ok(_)) => missing(),
        Ok(Err(error)) if is_missing(&error) => missing(),
        Ok(Err(_)) | Err(_) => unreadable(),
    }
}

// 1. The path.

/// Returns the path below the root, unless it is refused.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    if path.is_empty() {
        return Some(relative);
    }
    for segment in path.strip_suffix('/').unwrap_or(path).split('/') {
        let name = decode(segment)?;
        let hidden = name.starts_with('.') && name != ".well-known";
        if name.is_empty() || hidden || name.contains(['/', '\\', '\0']) {
            return None;
        }
        relative.push(&*name);
    }
    Some(relative)
}

// 2. The file.

struct Opened {
    file: File,
    data: Metadata,
    kind: &'static str,
}

enum FileLookup {
    File(Opened),
    /// A directory with an index, but without a slash at the end of the path: relative links in the
    /// index would lead to the directory's neighbours.
    Directory,
}

impl Opened {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let kind = kind_of(path.extension().and_then(|end| end.to_str()).unwrap_or_default());
        Ok(Self { data: file.metadata()?, file, kind })
    }
}

fn open(root: &Path, relative: &Path, slash: bool, index: Option<&str>) -> io::Result<FileLookup> {
    let root = root.canonicalize()?;
    let found = open_within(&root, &root.join(relative))?;
    if found.data.is_file() {
        let is_named = !slash;
        return is_named.then_some(FileLookup::File(found)).ok_or_else(|| io::ErrorKind::NotFound.into());
    }
    let index = index.filter(|_| found.data.is_dir()).ok_or(io::ErrorKind::NotFound)?;
    let found = open_within(&root, &root.join(relative).join(index))?;
    if !found.data.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(if slash { FileLookup::File(found) } else { FileLookup::Directory })
}

/// Opens first and checks afterwards, so that the file checked is the file sent.
fn open_within(root: &Path, path: &Path) -> io::Result<Opened> {
    let opened = Opened::new(path)?;
    let real = path.canonicalize()?;
    let same = real.symlink_metadata()?;
    let is_same = (same.dev(), same.ino()) == (opened.data.dev(), opened.data.ino());
    if is_same && real.starts_with(root) { Ok(opened) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Returns whether the error means that the client gets no such file. Others are the server's
/// fault.
fn is_missing(error: &io::Error) -> bool {
    let missing = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP, libc::ENAMETOOLONG, libc::ENXIO];
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

// 3. The answer.

fn answer(request: &Request, opened: Opened) -> Response {
    let Opened { file, data, kind } = opened;
    let known = known(&data, SystemTime::now());
    let Known { length, tag, strong, modified } = &known;
    let response = match decide(request, &known) {
        Verdict::Whole => send(file, 0..*length),
        Verdict::Part(range) => {
            let place = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            send(file, range).with_status(206).with_field("content-range", place)
        }
        Verdict::NotModified => return Response::new(304).with_field("etag", tag_field(tag, *strong)),
        Verdict::Failed => return Response::text(StatusCode::PRECONDITION_FAILED, "the file is another one by now"),
        Verdict::Unsatisfiable => {
            return Response::text(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such bytes")
                .with_field("content-range", format!("bytes */{length}"));
        }
    };
    let response = response
        .with_field("content-type", kind)
        .with_field("accept-ranges", "bytes")
        .with_field("etag", tag_field(tag, *strong));
    match modified {
        Some(modified) => response.with_field("last-modified", httpdate::fmt_http_date(*modified)),
        None => response,
    }
}

fn tag_field(tag: &str, strong: bool) -> String {
    format!("{}{tag}", if strong { "" } else { "W/" })
}

fn known(data: &Metadata, now: SystemTime) -> Known {
    let changed = data.modified().ok();
    let age = changed.and_then(|changed| now.duration_since(changed).ok());
    // Limited to now: `Last-Modified` must not be later than `Date`.
    let told = changed.map(|changed| changed.min(now)).and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
    Known {
        length: data.len(),
        tag: format!("\"{:x}-{:x}.{:x}\"", data.len(), data.mtime(), data.mtime_nsec()),
        strong: age.is_some_and(|age| age >= SETTLED),
        modified: told.map(|since| UNIX_EPOCH + Duration::from_secs(since.as_secs())),
    }
}

fn with_slash(request: &Request) -> Response {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Relative, with a dot before it: so no name can be mistaken for a host or a scheme.
    Response::new(301).with_field("location", format!("./{last}/{query}"))
}

fn missing() -> Response {
    Response::text(StatusCode::NOT_FOUND, "there is no such file")
}

fn unreadable() -> Response {
    Response::text(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read now")
}

// 4. The bytes.

fn send(file: File, range: Range<u64>) -> Response {
    let length = range.end - range.start;
    Response::stream_sized(length, FilePieces { file: Some(file), at: range.start, left: length, reading: None })
}

type Reading = JoinHandle<(File, io::Result<Vec<u8>>)>;

/// Reads a file's bytes. Holds the file, or the read that has it.
struct FilePieces {
    file: Option<File>,
    /// The offset of the next piece, and the number of bytes still to come.
    at: u64,
    left: u64,
    reading: Option<Reading>,
}

impl Stream for FilePieces {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left > 0 {
            if let Some(file) = self.file.take() {
                let (at, length) = (self.at, self.left.min(PIECE));
                self.reading = Some(spawn_blocking(move || {
                    let piece = read_at(&file, at, length);
                    (file, piece)
                }));
            }
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let (file, piece) = match read {
            Ok((file, Ok(piece))) => (file, piece),
            Ok((_, Err(error))) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.file = Some(file);
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(piece)))
    }
}

fn read_at(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut piece, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the file became shorter while it was sent"),
        _ => error,
    })?;
    Ok(piece)
}

fn kind_of(extension: &str) -> &'static str {
    match extension.to_ascii_lowercase().as_str() {
        "aac" => "audio/aac",
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "flac" => "audio/flac",
        "gif" => "image/gif",
        "gz" => "application/gzip",
        "htm" | "html" => "text/html; charset=utf-8",
        "ico" => "image/vnd.microsoft.icon",
        "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "m4a" => "audio/mp4",
        "md" => "text/markdown; charset=utf-8",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "ogg" => "audio/ogg",
        "otf" => "font/otf",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "tar" => "application/x-tar",
        "ttf" => "font/ttf",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "webmanifest" => "application/manifest+json",
        "webp" => "image/webp",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "xml" => "application/xml",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}
