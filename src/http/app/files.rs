//! Files as answers: found below a directory, compared with what the client has, sent in bounded
//! pieces.
//!
//! A file is opened on the blocking pool, and what is said of it, whether it is a file at all, how
//! long it is, when it was changed, is asked of the open handle and not of the path, which may lead
//! elsewhere by then. The answer follows from that and the request's fields; see [`Dir`] for what
//! is sent. The bytes come after it, a piece at a time, each read by the pool while the one before
//! is being written.
//!
//! # How it works
//!
//! 1. `relative`: a request's path becomes one below the root, or nothing: dots, separators and
//!    nulls in a segment are not looked for.
//! 2. `open`: open, ask the handle, and look whether the path without symbolic links is below the
//!    root and still that same file.
//! 3. `conditional`: whole, part, 304, 412 or 416.
//! 4. `Pieces`: the bytes.
//!
//! # Invariants
//!
//! - The length that is sent is the handle's. A file that became shorter breaks the connection off;
//!   what a file grows by is not sent.
//! - Nothing outside of the root is sent, whatever was renamed or linked meanwhile. Hard links
//!   cannot be told apart from files.
//! - Opening does not wait: a named pipe has no writer that one could wait for, and the pool few
//!   threads.

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

/// Bytes of a file in memory at a time.
const PIECE: u64 = 64 * 1024;
/// How old a change must be so that another one would have another time: file systems count in
/// steps of up to two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// A directory whose files are answers: a handler for a route that ends in a rest, `{*path}`, or
/// for a path that stands for the directory itself.
///
/// The file is looked for by the path's last parameter, if that reaches to the end of the path, and
/// else it is the directory's index.
///
/// What is sent:
///
/// - 200 with the file's bytes, `Content-Type` by the name's ending, `Content-Length`, `ETag`,
///   `Last-Modified` and `Accept-Ranges: bytes`.
/// - 206 for one range. For several the whole is sent, which HTTP allows. 416 for a range beyond
///   the end.
/// - 304 and 412 as `If-None-Match`, `If-Modified-Since`, `If-Match` and `If-Unmodified-Since` ask.
///   `If-Range` is heeded.
/// - For a directory its index, `index.html` by default, and a 301 to the path with `/` at its end
///   where that is missing. Directories are not listed.
/// - 404 for everything else: names that begin with a dot, but for `.well-known`; names with a
///   separator or a null in them; empty segments; what is no file; what may not be read; and what a
///   symbolic link leads out of the directory to. Links within it are followed.
///
/// The entity tag is made of the file's length and the time it was changed, so a file must not be
/// replaced by another one with both the same. It is a weak one as long as the change is less than
/// two seconds ago, when a second change might not show.
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
    /// The files below this directory. Nothing is opened yet; one that does not exist has no files.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), index: Some("index.html".to_owned()) }
    }

    /// The file to send for a directory, `index.html` by default; with None directories are not
    /// found.
    #[must_use]
    pub fn index<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.index = name.into().map(str::to_owned);
        self
    }

    /// Answers a request with the file of this path below the directory, which may be
    /// percent-encoded as in the request. For a handler that looks at the request first.
    ///
    /// # Panics
    ///
    /// When awaited outside a runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; opening, if it has begun, ends by itself.
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
            Ok(Ok(Found::File(opened))) => answer(request, opened),
            Ok(Ok(Found::Directory)) => with_slash(request),
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

/// The last parameter, if the path ends with it.
fn rest_of(request: &Request) -> &str {
    let last = request.parameters().last().map(|(_, value)| value);
    last.filter(|value| value.as_bytes().as_ptr_range().end == request.path().as_bytes().as_ptr_range().end)
        .unwrap_or_default()
}

/// Answers a request with the file that its path names below a directory, of which `prefix` is what
/// stands before that name, as [`Dir`] does.
///
/// # Panics
///
/// When awaited outside a runtime.
///
/// # Cancel safety
///
/// Dropping the future loses nothing; opening, if it has begun, ends by itself.
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

/// Answers a request with one file, wherever it is: dots and symbolic links in the path are
/// followed, so it must not come from the request. Conditions, ranges and fields are as those of
/// [`Dir`].
///
/// # Panics
///
/// When awaited outside a runtime.
///
/// # Cancel safety
///
/// Dropping the future loses nothing; opening, if it has begun, ends by itself.
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

/// The path below the root; None if it must not be looked for.
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

/// A handle, and what was asked of it.
struct Opened {
    file: File,
    data: Metadata,
    kind: &'static str,
}

enum Found {
    File(Opened),
    /// There is one with an index, but the path has no slash at its end: names in the index would
    /// be taken for the directory's neighbours.
    Directory,
}

impl Opened {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let kind = kind_of(path.extension().and_then(|end| end.to_str()).unwrap_or_default());
        Ok(Self { data: file.metadata()?, file, kind })
    }
}

fn open(root: &Path, relative: &Path, slash: bool, index: Option<&str>) -> io::Result<Found> {
    let root = root.canonicalize()?;
    let found = open_within(&root, &root.join(relative))?;
    if found.data.is_file() {
        let is_named = !slash;
        return is_named.then_some(Found::File(found)).ok_or_else(|| io::ErrorKind::NotFound.into());
    }
    let index = index.filter(|_| found.data.is_dir()).ok_or(io::ErrorKind::NotFound)?;
    let found = open_within(&root, &root.join(relative).join(index))?;
    if !found.data.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(if slash { Found::File(found) } else { Found::Directory })
}

/// Opens first and looks afterwards: what is sent is what was looked at.
fn open_within(root: &Path, path: &Path) -> io::Result<Opened> {
    let opened = Opened::new(path)?;
    let real = path.canonicalize()?;
    let same = real.symlink_metadata()?;
    let is_same = (same.dev(), same.ino()) == (opened.data.dev(), opened.data.ino());
    if is_same && real.starts_with(root) { Ok(opened) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Whether the error means that there is no such file for this client; others are the server's own
/// trouble.
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
    // A time to come is not told: `Last-Modified` must not be later than `Date`.
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
    // Relative to the request, with a dot before it: nothing in a name can then be taken for a host
    // or a scheme.
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
    Response::stream_sized(length, Pieces { file: Some(file), at: range.start, left: length, reading: None })
}

type Reading = JoinHandle<(File, io::Result<Vec<u8>>)>;

/// A file's bytes; holds either the file or the read that has it.
struct Pieces {
    file: Option<File>,
    /// Where the next piece begins, and how many bytes are still to come.
    at: u64,
    left: u64,
    reading: Option<Reading>,
}

impl Stream for Pieces {
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

/// The type of a file by its name's ending.
fn kind_of(extension: &str) -> &'static str {
    const KINDS: &[(&str, &str)] = &[
        ("aac", "audio/aac"),
        ("avif", "image/avif"),
        ("bmp", "image/bmp"),
        ("css", "text/css; charset=utf-8"),
        ("csv", "text/csv; charset=utf-8"),
        ("flac", "audio/flac"),
        ("gif", "image/gif"),
        ("gz", "application/gzip"),
        ("htm", "text/html; charset=utf-8"),
        ("html", "text/html; charset=utf-8"),
        ("ico", "image/vnd.microsoft.icon"),
        ("jpeg", "image/jpeg"),
        ("jpg", "image/jpeg"),
        ("js", "text/javascript; charset=utf-8"),
        ("json", "application/json"),
        ("m4a", "audio/mp4"),
        ("map", "application/json"),
        ("md", "text/markdown; charset=utf-8"),
        ("mjs", "text/javascript; charset=utf-8"),
        ("mp3", "audio/mpeg"),
        ("mp4", "video/mp4"),
        ("ogg", "audio/ogg"),
        ("otf", "font/otf"),
        ("pdf", "application/pdf"),
        ("png", "image/png"),
        ("svg", "image/svg+xml"),
        ("tar", "application/x-tar"),
        ("ttf", "font/ttf"),
        ("txt", "text/plain; charset=utf-8"),
        ("wasm", "application/wasm"),
        ("wav", "audio/wav"),
        ("webm", "video/webm"),
        ("webmanifest", "application/manifest+json"),
        ("webp", "image/webp"),
        ("woff", "font/woff"),
        ("woff2", "font/woff2"),
        ("xml", "application/xml"),
        ("zip", "application/zip"),
    ];
    let of = |(known, kind): &(&str, &'static str)| known.eq_ignore_ascii_case(extension).then_some(*kind);
    KINDS.iter().find_map(of).unwrap_or("application/octet-stream")
}
