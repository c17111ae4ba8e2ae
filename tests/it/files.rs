//! Files as answers: which are found, what conditions and ranges make of them, and what happens to
//! one that changes while it is sent.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postlude::http::files::{self, Dir};
use postlude::http::{Request, Router, Server};
use postlude::net::UnixStream;

use crate::http::{connect, exchange_with, get, read_to_end, server};

/// A directory of this test's own, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("postlude-files-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Writes a file below the root that was changed at the billionth second.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        File::open(&path).unwrap().set_modified(changed()).unwrap();
        path
    }

    fn site(&self) -> Router {
        let dir = Dir::new(self.root());
        Router::new().get("/s/", dir.clone()).get("/s", dir.clone()).get("/s/{*path}", dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn changed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

const CHANGED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
const AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn answer_of(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// One connection per request.
fn ask_all(router: Router, requests: impl IntoIterator<Item = String>) -> Vec<Answer> {
    postlude::run(async {
        let server = Rc::new(server(router));
        let mut answers = Vec::new();
        for request in requests {
            answers.push(answer_of(&ask(&server, &request).await));
        }
        answers
    })
    .unwrap()
}

async fn ask(server: &Rc<Server>, request: &str) -> String {
    let client = connect(server);
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    read_to_end(&client).await
}

fn with(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

fn get_with(path: &str, fields: &[String]) -> String {
    with("GET", path, &fields.iter().map(|field| format!("{field}\r\n")).collect::<String>())
}

fn exchange(root: &Path, request: &str) -> String {
    let root = root.to_owned();
    let app = Router::new().get("/s/{*file}", async move |request: Request| files::serve(&root, "/s", &request).await);
    postlude::run(async { exchange_with(server(app), request).await }).unwrap()
}

// Which file.

#[test]
fn a_file_below_the_root_is_sent_and_nothing_else() {
    let folder = Folder::new();
    folder.write("a b.txt", "text");
    folder.write(".hidden", "no");
    folder.write("index.html", "no empty segments");
    folder.write("sub/index.html", "no empty segments");
    fs::write(folder.0.join("secret"), "no").unwrap();
    symlink(folder.0.join("secret"), folder.root().join("link")).unwrap();
    symlink(&folder.0, folder.root().join("out")).unwrap();
    let answer = exchange(&folder.root(), &get("/s/a%20b.txt"));
    assert!(answer.contains("text/plain") && answer.ends_with("\r\n\r\ntext"), "{answer}");
    let paths = [
        "/s/../secret",
        "/s/%2e%2e/secret",
        "/s/..%2fsecret",
        "/s/..%5csecret",
        "/s/.hidden",
        "/s/link",
        "/s/out/secret",
        "/s/none",
        "/s/a%20b.txt/",
        "/s//a%20b.txt",
        "/s//",
        "/s///",
        "/s/sub//",
        "/s/sub//index.html",
        "/s/a%20b.txt%00",
        "/s/%ff",
        "/s/..\\secret",
        "/s/..\\..\\secret",
        "/s/\\..\\secret",
        "/s/sub\\index.html",
        "/s/%2e%2e%5csecret",
        "/s/%u002e%u002e/secret",
        "/s/%252e%252e/secret",
        "/s/%c0%ae%c0%ae/secret",
        "/s/%",
        "/s/a%20b.txt%",
        "/s/a%2",
        "/s/a%20b.txt/x",
    ];
    for (path, answer) in paths.iter().zip(ask_all(folder.site(), paths.iter().map(|path| get(path)))) {
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.head);
        assert!(!exchange(&folder.root(), &get(path)).starts_with("HTTP/1.1 200"), "{path}");
    }
    let tag = answer_of(&answer).field("etag").unwrap().to_owned();
    let again = get_with("/s/a%20b.txt", &[format!("If-None-Match: \"x\", {tag}")]);
    assert!(exchange(&folder.root(), &again).starts_with("HTTP/1.1 304"));
}

#[test]
fn a_prefix_is_a_whole_segment() {
    let folder = Folder::new();
    folder.write("hop", "no");
    folder.write("index.html", "nor this");
    let root = folder.root();
    let app = Router::new().get("/{*all}", async move |request: Request| files::serve(&root, "/s", &request).await);
    assert_eq!(
        ask_all(app, [get("/shop"), get("/s/hop")]).iter().map(|answer| answer.status).collect::<Vec<_>>(),
        [404, 200]
    );
}

#[test]
fn links_are_followed_within_the_root_and_the_root_may_be_one() {
    let folder = Folder::new();
    folder.write("deep/a.txt", "a");
    symlink("deep/a.txt", folder.root().join("link.txt")).unwrap();
    symlink(folder.root(), folder.0.join("alias")).unwrap();
    let app = Router::new().get("/{*path}", Dir::new(folder.0.join("alias")));
    for answer in ask_all(app, [get("/link.txt"), get("/deep/a.txt")]) {
        assert_eq!((answer.status, answer.body.as_str()), (200, "a"));
    }
}

#[test]
fn a_link_that_changes_while_it_is_looked_at_does_not_lead_out() {
    let folder = Folder::new();
    folder.write("inside", "inside");
    fs::write(folder.0.join("secret"), "secret").unwrap();
    let (link, new, secret) = (folder.root().join("link"), folder.root().join("new"), folder.0.join("secret"));
    let done = AtomicBool::new(false);
    let bodies = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for target in [Path::new("inside"), &secret] {
                    symlink(target, &new).unwrap();
                    fs::rename(&new, &link).unwrap();
                }
            }
        });
        let answers = ask_all(folder.site(), (0..1000).map(|_| get("/s/link")));
        done.store(true, Ordering::Relaxed);
        answers
    });
    assert!(bodies.iter().all(|answer| answer.status == 404 || answer.body == "inside"));
}

#[test]
fn what_is_no_file_is_not_found_and_a_pipe_is_not_waited_for() {
    let folder = Folder::new();
    let pipe = CString::new(folder.root().join("pipe").into_os_string().into_vec()).unwrap();
    #[allow(
        unsafe_code,
        reason = "`mkfifo` the program would be a process beside the other tests, with copies of their sockets"
    )]
    // SAFETY: the path is a C string that outlives the call.
    let made = unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) };
    assert_eq!(made, 0);
    let _socket = std::os::unix::net::UnixListener::bind(folder.root().join("socket")).unwrap();
    let long = format!("/s/{}", "x".repeat(300));
    for answer in ask_all(folder.site(), [get("/s/pipe"), get("/s/socket"), get(&long)]) {
        assert_eq!(answer.status, 404);
    }
}

#[test]
fn a_directory_is_its_index_behind_a_slash() {
    let folder = Folder::new();
    folder.write("index.html", "<p>top");
    folder.write("docs/index.html", "<p>docs");
    folder.write("empty/other", "x");
    folder.write(".well-known/security.txt", "safe");
    let wanted = [
        ("/s/", 200, "<p>top", None),
        ("/s", 301, "", Some("./s/")),
        ("/s/docs/", 200, "<p>docs", None),
        ("/s/docs/index.html", 200, "<p>docs", None),
        ("/s/docs?a=b", 301, "", Some("./docs/?a=b")),
        ("/s/d%6Fcs", 301, "", Some("./d%6Fcs/")),
        ("/s/empty/", 404, "there is no such file", None),
        ("/s/empty", 404, "there is no such file", None),
        ("/s/.well-known/security.txt", 200, "safe", None),
    ];
    let answers = ask_all(folder.site(), wanted.iter().map(|(path, ..)| get(path)));
    for ((path, status, body, location), answer) in wanted.iter().zip(&answers) {
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.field("location")),
            (*status, *body, *location),
            "{path}"
        );
    }
    let plain = Dir::new(folder.root()).index(None);
    let named = Dir::new(folder.root()).index("other");
    let app = Router::new().get("/a/{*path}", plain).get("/b/{*path}", named);
    let answers = ask_all(app, [get("/a/docs/"), get("/a/docs/index.html"), get("/b/empty/")]);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [404, 200, 200]);
}

#[test]
fn a_parameter_that_is_not_the_paths_end_names_no_file() {
    let folder = Folder::new();
    folder.write("index.html", "index");
    folder.write("ada", "ada");
    let dir = Dir::new(folder.root());
    let app = Router::new().nest("/{user}", Router::new().get("/", dir.clone()).get("/{*path}", dir));
    let answers = ask_all(app, [get("/ada/"), get("/x/ada")]);
    assert_eq!(answers.iter().map(|answer| answer.body.as_str()).collect::<Vec<_>>(), ["index", "ada"]);
}

#[test]
fn the_type_follows_the_names_ending() {
    let folder = Folder::new();
    let kinds = [
        ("a.html", "text/html; charset=utf-8"),
        ("a.PNG", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
    ];
    kinds.iter().for_each(|(name, _)| drop(folder.write(name, "x")));
    let answers = ask_all(folder.site(), kinds.iter().map(|(name, _)| get(&format!("/s/{name}"))));
    for ((_, kind), answer) in kinds.iter().zip(answers) {
        assert_eq!(answer.field("content-type"), Some(*kind));
    }
}

#[test]
fn one_file_is_served_wherever_it_is() {
    let folder = Folder::new();
    let path = folder.write(".report", "0123456789");
    let gone = folder.0.join("gone");
    let app = Router::new()
        .get("/report", async move |request: Request| files::file(&path, &request).await)
        .get("/gone", async move |request: Request| files::file(&gone, &request).await)
        .get("/dir", async |request: Request| files::file("/", &request).await);
    let answers = ask_all(app, [get_with("/report", &["Range: bytes=2-3".to_owned()]), get("/gone"), get("/dir")]);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [206, 404, 404]);
    assert_eq!(answers[0].body, "23");
}

// Ranges.

/// Asks for ranges of a file; each line is the field, the status, what `Content-Range` says and the
/// body.
fn check_ranges(bytes: &str, wanted: &[(&str, u16, Option<&str>, &str)]) {
    let folder = Folder::new();
    folder.write("f", bytes);
    let requests = wanted.iter().map(|(range, ..)| get_with("/s/f", &[format!("Range: {range}")]));
    for ((range, status, place, body), answer) in wanted.iter().zip(ask_all(folder.site(), requests)) {
        assert_eq!((answer.status, answer.field("content-range")), (*status, *place), "{range}: {}", answer.head);
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()), "{range}");
        assert!(answer.status == 416 || answer.body == *body, "{range}: {}", answer.body);
        assert!(answer.status == 416 || answer.field("accept-ranges") == Some("bytes"), "{range}");
        assert!(answer.status == 416 || answer.field("etag").is_some() && answer.field("last-modified").is_some());
    }
}

#[test]
fn a_range_is_answered_by_its_bytes() {
    let all = "0123456789";
    check_ranges(
        all,
        &[
            ("bytes=0-0", 206, Some("bytes 0-0/10"), "0"),
            ("bytes=0-", 206, Some("bytes 0-9/10"), all),
            ("bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
            ("bytes=9-9", 206, Some("bytes 9-9/10"), "9"),
            ("bytes=9-", 206, Some("bytes 9-9/10"), "9"),
            ("bytes=5-99", 206, Some("bytes 5-9/10"), "56789"),
            ("bytes=-3", 206, Some("bytes 7-9/10"), "789"),
            ("bytes=-10", 206, Some("bytes 0-9/10"), all),
            ("bytes=-99", 206, Some("bytes 0-9/10"), all),
            ("BYTES=1-1", 206, Some("bytes 1-1/10"), "1"),
            ("bytes=0001-00002", 206, Some("bytes 1-2/10"), "12"),
            ("bytes= 1-1 ,", 206, Some("bytes 1-1/10"), "1"),
            ("bytes=1-99999999999999999999999", 206, Some("bytes 1-9/10"), "123456789"),
            ("bytes=1-18446744073709551615", 206, Some("bytes 1-9/10"), "123456789"),
            ("bytes=-99999999999999999999999", 206, Some("bytes 0-9/10"), all),
        ],
    );
}

#[test]
fn a_range_beyond_the_end_is_a_416() {
    check_ranges(
        "0123456789",
        &[
            ("bytes=10-", 416, Some("bytes */10"), ""),
            ("bytes=10-10", 416, Some("bytes */10"), ""),
            ("bytes=-0", 416, Some("bytes */10"), ""),
            ("bytes=10-,20-30,-0", 416, Some("bytes */10"), ""),
            ("bytes=18446744073709551615-", 416, Some("bytes */10"), ""),
            ("bytes=18446744073709551615-18446744073709551615", 416, Some("bytes */10"), ""),
            ("bytes=99999999999999999999-99999999999999999999999", 416, Some("bytes */10"), ""),
        ],
    );
}

#[test]
fn of_several_ranges_the_whole_is_sent_unless_one_alone_is_within() {
    let all = "0123456789";
    check_ranges(
        all,
        &[
            ("bytes=0-1,3-4", 200, None, all),
            ("bytes=0-1,0-1,0-1,0-1", 200, None, all),
            ("bytes=0-1, 20-30", 206, Some("bytes 0-1/10"), "01"),
            ("bytes=20-30,-1", 206, Some("bytes 9-9/10"), "9"),
        ],
    );
}

#[test]
fn what_is_no_range_is_as_if_it_were_not_there() {
    let all = "0123456789";
    let malformed = [
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-4",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=1-2;3",
        "bytes=1-2,x",
        "lines=1-2",
        "bytes =1-2",
        "=1-2",
        "bytes:1-2",
        "bytes=\u{661}-2",
        "bytes=99999999999999999999999-1",
    ];
    check_ranges(all, &malformed.map(|range| (range, 200, None, all)));
}

#[test]
fn an_empty_file_has_no_ranges() {
    check_ranges(
        "",
        &[
            ("bytes=0-", 416, Some("bytes */0"), ""),
            ("bytes=0-0", 416, Some("bytes */0"), ""),
            ("bytes=-0", 416, Some("bytes */0"), ""),
            ("bytes=-5", 200, None, ""),
            ("bytes=x", 200, None, ""),
        ],
    );
}

#[test]
fn ranges_are_for_get_and_come_once() {
    let folder = Folder::new();
    folder.write("f", "0123456789");
    let head = with("HEAD", "/s/f", "Range: bytes=0-0\r\n");
    let twice = with("GET", "/s/f", "Range: bytes=0-0\r\nRange: bytes=1-1\r\n");
    let answers = ask_all(folder.site(), [head, twice]);
    assert_eq!(
        (answers[0].status, answers[0].field("content-length"), answers[0].body.as_str()),
        (200, Some("10"), "")
    );
    assert_eq!((answers[1].status, answers[1].body.as_str()), (200, "0123456789"));
}

#[test]
fn a_file_larger_than_any_memory_has_ranges_and_is_sent_in_pieces() {
    const LENGTH: u64 = 1 << 40;
    let folder = Folder::new();
    let path = folder.write("f", "");
    File::options().write(true).open(path).unwrap().set_len(LENGTH).unwrap();
    let tail = get_with("/s/f", &["Range: bytes=-3".to_owned()]);
    let answers = ask_all(folder.site(), [tail, with("HEAD", "/s/f", "")]);
    assert_eq!(answers[0].body, "\0\0\0");
    assert_eq!(answers[0].field("content-range"), Some("bytes 1099511627773-1099511627775/1099511627776"));
    assert_eq!(answers[1].field("content-length"), Some("1099511627776"));
    postlude::run(async {
        let client = connect(&Rc::new(server(folder.site())));
        client.write_all(get("/s/f").as_bytes()).await.unwrap();
        let mut read = 0;
        while read < 3 << 20 {
            read += client.read(&mut [0; 65536]).await.unwrap();
        }
    })
    .unwrap();
}

// Conditions.

fn tag_of(folder: &Folder) -> String {
    ask_all(folder.site(), [get("/s/f")])[0].field("etag").unwrap().to_owned()
}

#[test]
fn conditions_are_looked_at_in_their_order() {
    let folder = Folder::new();
    folder.write("f", "0123456789");
    let tag = tag_of(&folder);
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let wanted = [
        // If-Match, by strong comparison.
        (200, vec![format!("If-Match: {tag}")]),
        (200, vec!["If-Match: *".into()]),
        (200, vec![format!("If-Match: \"a,b\", W/\"c\" ,, {tag}")]),
        (200, vec!["If-Match: \"a\"".into(), format!("If-Match: {tag}")]),
        (412, vec!["If-Match: \"a\"".into()]),
        (412, vec![format!("If-Match: W/{tag}")]),
        (412, vec!["If-Match: ".into()]),
        (412, vec![format!("If-Match: x {tag}")]),
        // If-Unmodified-Since, unless there was If-Match.
        (200, vec![format!("If-Unmodified-Since: {CHANGED}")]),
        (200, vec![format!("If-Unmodified-Since: {AFTER}")]),
        (412, vec![format!("If-Unmodified-Since: {BEFORE}")]),
        (200, vec!["If-Unmodified-Since: long ago".into()]),
        (200, vec![format!("If-Match: {tag}"), format!("If-Unmodified-Since: {BEFORE}")]),
        // If-None-Match, by weak comparison.
        (304, vec![format!("If-None-Match: {tag}")]),
        (304, vec![format!("If-None-Match: W/{tag}")]),
        (304, vec!["If-None-Match: *".into()]),
        (304, vec!["If-None-Match: \"a\"".into(), format!("If-None-Match: \"b\", {tag}")]),
        (200, vec!["If-None-Match: \"a\", \"b\"".into()]),
        (200, vec![format!("If-None-Match: {}", tag.trim_matches('"'))]),
        (200, vec![format!("If-None-Match: \"x{}", tag.trim_matches('"'))]),
        // If-Modified-Since, unless there was If-None-Match.
        (304, vec![format!("If-Modified-Since: {CHANGED}")]),
        (304, vec![format!("If-Modified-Since: {AFTER}")]),
        (200, vec![format!("If-Modified-Since: {BEFORE}")]),
        (304, vec!["If-Modified-Since: Sunday, 09-Sep-01 01:46:40 GMT".into()]),
        (304, vec!["If-Modified-Since: Sun Sep  9 01:46:40 2001".into()]),
        (200, vec!["If-Modified-Since: 1000000000".into()]),
        (200, vec![format!("If-Modified-Since: {AFTER}"), format!("If-Modified-Since: {AFTER}")]),
        (200, vec!["If-None-Match: \"a\"".into(), format!("If-Modified-Since: {AFTER}")]),
        // The first that fails decides.
        (412, vec!["If-Match: \"a\"".into(), format!("If-None-Match: {tag}")]),
        (304, vec![format!("If-Match: {tag}"), format!("If-None-Match: {tag}"), "Range: bytes=0-0".into()]),
        (412, vec!["If-Match: \"a\"".into(), "Range: bytes=0-0".into()]),
        (206, vec![format!("If-Match: {tag}"), "Range: bytes=0-0".into()]),
        (304, vec![format!("If-None-Match: {tag}"), "Range: bytes=99-".into()]),
        // If-Range.
        (206, vec![format!("If-Range: {tag}"), "Range: bytes=0-0".into()]),
        (206, vec![format!("If-Range: {CHANGED}"), "Range: bytes=0-0".into()]),
        (200, vec!["If-Range: \"a\"".into(), "Range: bytes=0-0".into()]),
        (200, vec![format!("If-Range: W/{tag}"), "Range: bytes=0-0".into()]),
        (200, vec![format!("If-Range: {AFTER}"), "Range: bytes=0-0".into()]),
        (200, vec![format!("If-Range: {BEFORE}"), "Range: bytes=0-0".into()]),
        (200, vec!["If-Range: a day".into(), "Range: bytes=0-0".into()]),
        (200, vec!["If-Range: \"a\"".into(), "Range: bytes=99-".into()]),
        (200, vec![format!("If-Range: {tag}")]),
    ];
    let answers = ask_all(folder.site(), wanted.iter().map(|(_, fields)| get_with("/s/f", fields)));
    for ((status, fields), answer) in wanted.iter().zip(&answers) {
        assert_eq!(answer.status, *status, "{fields:?}");
        if *status == 304 {
            assert_eq!((answer.field("etag"), answer.body.as_str()), (Some(tag.as_str()), ""), "{fields:?}");
        }
    }
    let head = with("HEAD", "/s/f", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(ask_all(folder.site(), [head])[0].status, 304);
}

#[test]
fn another_method_that_has_a_tag_it_must_not_have_fails() {
    let folder = Folder::new();
    let path = folder.write("f", "x");
    let app = Router::new().put("/s/f", async move |request: Request| files::file(&path, &request).await);
    let request = with("PUT", "/s/f", &format!("If-None-Match: *\r\nIf-Modified-Since: {AFTER}\r\n"));
    let dates_alone = with("PUT", "/s/f", &format!("If-Modified-Since: {AFTER}\r\n"));
    let answers = ask_all(app, [request, dates_alone]);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [412, 200]);
}

#[test]
fn the_validators_change_with_the_file_and_are_weak_while_it_is_new() {
    let folder = Folder::new();
    let path = folder.write("f", "0123456789");
    let old = &ask_all(folder.site(), [get("/s/f")])[0];
    assert_eq!(old.field("last-modified"), Some(CHANGED));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(changed() + Duration::from_nanos(1)).unwrap();
    assert_ne!(tag_of(&folder), old.field("etag").unwrap(), "the time counts to the nanosecond");
    file.set_modified(SystemTime::now()).unwrap();
    let weak = tag_of(&folder);
    assert!(weak.starts_with("W/"), "{weak}");
    let strong = weak.trim_start_matches("W/");
    let range = || "Range: bytes=0-0".to_owned();
    let requests = [
        get_with("/s/f", &[format!("If-None-Match: {weak}")]),
        get_with("/s/f", &[format!("If-Match: {weak}")]),
        get_with("/s/f", &[format!("If-Match: {strong}")]),
        get_with("/s/f", &[format!("If-Range: {strong}"), range()]),
        get_with("/s/f", &[range()]),
    ];
    let answers = ask_all(folder.site(), requests);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [304, 412, 412, 200, 206]);
}

#[test]
fn a_time_to_come_or_before_all_times_is_not_told() {
    let folder = Folder::new();
    let path = folder.write("f", "x");
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
    let future = &ask_all(folder.site(), [get("/s/f")])[0];
    let told = |answer: &Answer, name| httpdate::parse_http_date(answer.field(name).unwrap()).unwrap();
    assert!(told(future, "last-modified") <= told(future, "date"), "{}", future.head);
    file.set_modified(UNIX_EPOCH - Duration::from_secs(5)).unwrap();
    let past = &ask_all(folder.site(), [get("/s/f")])[0];
    assert_eq!((past.status, past.field("last-modified")), (200, None), "{}", past.head);
}

// While it is sent.

const BIG: usize = 8 << 20;

/// Reads the head and a little, lets `meanwhile` happen, and gives the number of body bytes that
/// came until the connection ended.
fn bytes_of_big_file(meanwhile: impl FnOnce(&Path)) -> usize {
    let folder = Folder::new();
    let path = folder.write("f", vec![b'x'; BIG]);
    postlude::run(async {
        let client: UnixStream = connect(&Rc::new(server(folder.site())));
        client.write_all(get("/s/f").as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let count = client.read(&mut buffer).await.unwrap();
        let head = buffer[..count].windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        meanwhile(&path);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        count - head + read_to_end(&client).await.len()
    })
    .unwrap()
}

#[test]
fn a_file_that_becomes_shorter_ends_the_connection() {
    let bytes = bytes_of_big_file(|path| File::options().write(true).open(path).unwrap().set_len(100_000).unwrap());
    assert!(bytes < BIG, "{bytes}");
}

#[test]
fn what_a_file_grows_by_is_not_sent() {
    let bytes = bytes_of_big_file(|path| {
        File::options().write(true).open(path).unwrap().set_len(BIG as u64 + 1_000_000).unwrap();
    });
    assert_eq!(bytes, BIG);
}

#[test]
fn a_file_that_is_replaced_goes_on_as_it_was() {
    let bytes = bytes_of_big_file(|path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "new").unwrap();
    });
    assert_eq!(bytes, BIG);
}

#[test]
fn files_follow_each_other_on_one_connection() {
    let folder = Folder::new();
    folder.write("f", "0123456789");
    let requests =
        get("/s/f") + &get_with("/s/f", &["Range: bytes=3-4".to_owned()]) + &with("HEAD", "/s/f", "") + &get("/s/none");
    let answer = postlude::run(async { exchange_with(server(folder.site()), &requests).await }).unwrap();
    let bodies: Vec<_> =
        answer.split("HTTP/1.1 ").skip(1).map(|answer| answer.split_once("\r\n\r\n").unwrap().1).collect();
    assert_eq!(bodies, ["0123456789", "34", "", "there is no such file"]);
}
