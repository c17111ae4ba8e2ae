//! The house: which folder of `src` may use which, read from the sources. An arrow that points up
//! fails.
//!
//! `cargo test --test floors -- --nocapture` prints the drawing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up, and on a floor from left to right: each may use those before it and none
/// after it.
const FLOORS: &[&[&str]] = &[
    &["stderr", "slabs", "executor", "reactor", "timer"],
    &["pool", "promise"],
    &["event_loop"],
    &["task", "time", "sync", "io", "net"],
    &["runtime", "blocking", "deferred", "iter", "signal", "replay"],
    &["http"],
    &["guide"],
];

/// The same within `src/http`.
const FLOORS_OF_HTTP: &[&[&str]] = &[&["wire"], &["background"], &["app"], &["conn"], &["server"], &["mod"]];

/// What the reader of the loop need not know of, and no part of the public API: `http` uses none of
/// it.
const PRIVATE: &[&str] = &["slabs", "executor", "reactor", "timer", "pool", "promise", "event_loop"];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// The file without comments and without its unit tests, which may use anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The paths that follow a prefix, with their braces resolved: `crate::{a::B, c}` gives `a::B` and
/// `c`.
fn paths(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in code.match_indices(prefix) {
        let is_path =
            !code[..place].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
        if is_path {
            expand(&code[place + prefix.len()..], "", &mut found);
        }
    }
    found
}

/// Reads one path; returns how much of `code` it was.
fn expand(code: &str, before: &str, found: &mut Vec<String>) -> usize {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
    let path = format!("{before}{}", &code[..end]);
    if !code[end..].starts_with('{') {
        found.push(path);
        return end;
    }
    let mut place = end + 1;
    loop {
        place += code[place..].len() - code[place..].trim_start().len();
        place += expand(&code[place..], &path, found);
        // A new name, as in `a as b`, is not followed.
        let Some(next) = code[place..].find([',', '}']) else { return place };
        place += next + 1;
        if code[place - 1..].starts_with('}') {
            return place;
        }
        if code[place..].trim_start().starts_with('}') {
            return place + code[place..].find('}').unwrap_or_default() + 1;
        }
    }
}

/// Where the names that `lib.rs` re-exports come from.
fn reexports(src: &Path) -> BTreeMap<String, String> {
    let code = code(&src.join("lib.rs"));
    let mut names = BTreeMap::new();
    for (place, _) in code.match_indices("pub use ") {
        let mut found = Vec::new();
        expand(&code[place + "pub use ".len()..], "", &mut found);
        for path in found {
            let (folder, name) = (path.split("::").next(), path.rsplit("::").next());
            names.insert(name.unwrap_or_default().to_owned(), folder.unwrap_or_default().to_owned());
        }
    }
    names
}

/// The folder of `src` that a file is in; one that lies in `src` itself is named after itself.
fn folder_of(file: &Path, src: &Path) -> String {
    let inside = file.strip_prefix(src).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// For each folder the folders it uses, and for each of those the files that do.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The arrows between the folders of `src`: paths that begin with `prefix` lead to one of them, or
/// to a name re-exported there.
fn arrows(src: &Path, prefix: &str, reexports: &BTreeMap<String, String>) -> Arrows {
    let mut files = Vec::new();
    sources(src, &mut files);
    let mut arrows = Arrows::new();
    for file in files.iter().filter(|file| !file.ends_with("lib.rs")) {
        let from = folder_of(file, src);
        let uses = arrows.entry(from.clone()).or_default();
        let depth = file.strip_prefix(src).unwrap().components().count() - usize::from(file.ends_with("mod.rs"));
        let code = code(file);
        let relative = if depth == 0 { Vec::new() } else { paths(&code, &"super::".repeat(depth)) };
        for path in paths(&code, prefix).into_iter().chain(relative).filter(|path| !path.starts_with("super")) {
            let first = path.split("::").next().unwrap_or_default().to_owned();
            let to = reexports.get(&first).cloned().unwrap_or(first);
            if to != from {
                let name = file.strip_prefix(src).unwrap().to_string_lossy().into_owned();
                uses.entry(to).or_default().insert(name);
            }
        }
    }
    arrows
}

fn arrows_of_the_crate() -> Arrows {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    arrows(&src, "crate::", &reexports(&src))
}

/// Draws the floors, and names what points up or stands on none.
fn check(arrows: &Arrows, floors: &[&[&str]]) {
    let order: Vec<&str> = floors.iter().copied().flatten().copied().collect();
    let place = |folder: &str| order.iter().position(|known| *known == folder);
    let (mut drawing, mut wrong) = (String::new(), Vec::new());
    for (number, floor) in floors.iter().enumerate().rev() {
        let _ = writeln!(drawing, "floor {}", number + 1);
        for folder in *floor {
            let Some(uses) = arrows.get(*folder) else { continue };
            let uses = uses.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let _ = writeln!(drawing, "    {folder:<11} uses {uses}");
        }
    }
    eprint!("{drawing}");
    for (from, uses) in arrows {
        if place(from).is_none() {
            wrong.push(format!("`{from}` stands on no floor"));
        }
        for (to, files) in uses {
            if place(to) >= place(from) || place(to).is_none() {
                wrong.push(format!("{from} uses {to} in {}", files.iter().cloned().collect::<Vec<_>>().join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_arrow_between_folders_points_up() {
    let arrows = arrows_of_the_crate();
    assert!(arrows["event_loop"].contains_key("executor"), "arrows are found: {arrows:?}");
    check(&arrows, FLOORS);
}

#[test]
fn no_arrow_between_the_folders_of_http_points_up() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let arrows = arrows(&http, "crate::http::", &BTreeMap::new());
    assert!(arrows["conn"].contains_key("wire"), "arrows are found: {arrows:?}");
    check(&arrows, FLOORS_OF_HTTP);
}

#[test]
fn http_uses_what_anybody_could_use() {
    let arrows = arrows_of_the_crate();
    let private: Vec<_> = arrows["http"].iter().filter(|(to, _)| PRIVATE.contains(&to.as_str())).collect();
    assert!(private.is_empty(), "{private:#?}");
}

/// The words in backticks in some columns of a table in a module's doc.
fn table_names(doc: &str, header: &str, columns: std::ops::Range<usize>) -> Vec<String> {
    let rows = doc.lines().skip_while(|line| !line.contains(header)).skip(2);
    let rows = rows.map_while(|line| line.strip_prefix("//! |"));
    let cells = rows.flat_map(|row| row.split('|').skip(columns.start).take(columns.len()).collect::<Vec<_>>());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>()).map(str::to_owned).collect()
}

#[test]
fn the_functions_that_the_table_of_states_names_exist() {
    let executor = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/executor");
    let doc = fs::read_to_string(executor.join("slots.rs")).unwrap();
    let mut files = Vec::new();
    sources(&executor, &mut files);
    let code: String = files.iter().map(|file| code(file)).collect();
    let phases = table_names(&doc, "| phase   | the box is", 2..4);
    let flags = table_names(&doc, "| flag     | says", 2..4);
    assert!(phases.len() > 10 && flags.len() > 5, "{phases:?} {flags:?}");
    let drawing = doc.lines().skip_while(|line| !line.contains("```text")).take_while(|line| line.starts_with("//!"));
    let known = ["insert", "pop", "finish", "put_back", "remove", "poll_join", "detach"];
    let drawing = drawing.collect::<Vec<_>>().join("\n");
    assert!(known.iter().all(|name| drawing.contains(name)), "{drawing}");
    let missing: Vec<_> = phases.iter().chain(&flags).filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
