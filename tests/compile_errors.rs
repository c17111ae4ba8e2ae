//! What the compiler says about a handler of the wrong shape. Each case is a program that must not
//! compile, and the sentence that must be said.
//!
//! The sentences are ours (`#[diagnostic::on_unimplemented]`); the rest of the output is the
//! compiler's and changes with it. So the tests do not compare whole outputs, as `trybuild` does:
//! they call the compiler as the tests themselves were called, with the library they are linked
//! with, and look for the sentences. A program that compiles stands beside them, to show that it is
//! the mistake that is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

/// A case: what stands in `main`, and what the compiler must say.
struct Case {
    name: &'static str,
    program: &'static str,
    says: &'static [&'static str],
}

const NO_HANDLER: &str = "is no handler";
const SHAPE: &str = "a handler is an `async fn` or async closure; its parameters, at most 8, implement `FromRequest`, its output implements \
                     `IntoResponse`";

const CASES: [Case; 11] = [
    Case {
        name: "argument",
        program: "async fn wrong(_: std::time::Instant) -> &'static str { \"\" } let _ = Router::new().get(\"/\", wrong);",
        says: &["`Instant` cannot be taken from a request", "a handler's parameters are extractors: `Path`, `Query`,"],
    },
    Case {
        name: "output",
        program: "async fn wrong() -> std::time::Instant { std::time::Instant::now() } let _ = Router::new().get(\"/\", wrong);",
        says: &["`Instant` cannot be answered", "answer a text, bytes, a `StatusCode`,"],
    },
    Case {
        name: "sync",
        program: "fn wrong() -> &'static str { \"\" } let _ = Router::new().get(\"/\", wrong);",
        says: &[NO_HANDLER, SHAPE],
    },
    Case {
        name: "nine",
        program: "async fn wrong(_: Method, _: Method, _: Method, _: Method, _: Method, _: Method, _: Method, _: Method, _: Method) {} \
                  let _ = Router::new().get(\"/\", wrong);",
        says: &[NO_HANDLER, SHAPE],
    },
    Case {
        name: "second",
        program: "let _ = Router::new().get(\"/\", async |_: Method, _: u8, _: String| \"\");",
        says: &["`u8` cannot be taken from a request"],
    },
    Case {
        name: "endpoint",
        program: "let _ = Router::new().get(\"/\", endpoint(async || 7_u8).max_body(8));",
        says: &["`u8` cannot be answered"],
    },
    Case {
        name: "layer",
        program: "let _ = Router::new().with(async |request: Request, next: Next| { next.run(request).await; 7_u8 });",
        says: &["`u8` cannot be answered"],
    },
    Case {
        name: "task",
        program: "async fn wrong(tasks: BackgroundTasks) -> Result<()> { tasks.add(async { 7_u8 })?; Ok(()) } \
                  let _ = Router::new().get(\"/\", wrong);",
        says: &[
            "a background task cannot return `u8`",
            "return `()`, or `Result<T, E>` with an error that converts into",
        ],
    },
    Case {
        name: "plain_closure",
        program: "async fn wrong(tasks: BackgroundTasks) -> Result<()> { tasks.add(|| println!())?; Ok(()) } \
                  let _ = Router::new().get(\"/\", wrong);",
        says: &["is not a future"],
    },
    Case {
        name: "sync_work",
        program: "async fn wrong(tasks: BackgroundTasks) -> Result<()> { tasks.task(\"x\").run(|| println!())?; Ok(()) } \
                  let _ = Router::new().get(\"/\", wrong);",
        says: &["`run` takes an async closure"],
    },
    Case {
        name: "once_again",
        program: "async fn wrong(tasks: BackgroundTasks) -> Result<()> { let text = String::new(); \
                  tasks.task(\"x\").retry(postlude::deferred::Retry::times(2)).run(async move || drop(text))?; Ok(()) } \
                  let _ = Router::new().get(\"/\", wrong);",
        says: &["this closure implements `AsyncFnOnce`, not `AsyncFn`"],
    },
];

/// Compiles a program, without making a binary, against one build of the library.
fn compile(library: &Path, name: &str, program: &str) -> Output {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(format!("{name}.rs"));
    let text = format!("#![allow(unused_imports)]\nuse postlude::http::*;\nfn main() {{\n    {program}\n}}\n");
    std::fs::write(&source, text).expect("the folder for tests can be written to");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut external = std::ffi::OsString::from("postlude=");
    external.push(library);
    Command::new(compiler)
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--out-dir"])
        .arg(&folder)
        .arg("-L")
        .arg(library.parent().expect("a library is in a folder"))
        .arg("--extern")
        .arg(external)
        .arg(&source)
        .output()
        .expect("the compiler can be started")
}

const RIGHT: &str = "async fn right(_: Method, body: String) -> Result<String> { Ok(body) } \
                     let _ = Router::new().get(\"/\", right).with(async |request: Request, next: Next| next.run(request).await);";

/// The library. Other compilers and other features may have left theirs beside it: the newest with
/// which a right program compiles.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let program = std::env::current_exe().expect("a test has a path");
        let folder = program.parent().expect("a program is in a folder");
        let mut found: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(folder)
            .expect("the folder of the tests can be read")
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let name = path.file_name()?.to_str()?;
                let changed = path.metadata().ok()?.modified().ok()?;
                (name.starts_with("libpostlude-") && name.ends_with(".rlib")).then_some((changed, path))
            })
            .collect();
        found.sort_by(|one, other| other.cmp(one));
        let mut said = String::from("there is none");
        for (_, path) in found {
            let output = compile(&path, "right", RIGHT);
            if output.status.success() {
                return path;
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        panic!("no library with which a right program compiles: {said}")
    })
}

#[test]
fn a_handler_of_the_wrong_shape_is_told_what_is_wrong() {
    for Case { name, program, says } in CASES {
        let output = compile(library(), name, program);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} compiles");
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for sentence in says {
            assert!(words.contains(sentence), "{name}: {sentence:?} is not in\n{said}");
        }
    }
}
