//! The documents: their links, tables and code blocks, and the width of comments, read from the
//! files.

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/trace.rs"]
mod trace;

use std::fs;
use std::path::{Path, PathBuf};

/// The column at which the prose of comments ends.
const PROSE_COLUMNS: usize = 100;

/// The column at which code ends, also in a comment.
const CODE_COLUMNS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder of the repository with this ending, build folders left out.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<PathBuf> {
    files("docs", "md")
}

/// The Markdown files at the root that a viewer shows, beside the pages.
fn documents() -> Vec<PathBuf> {
    let mut found = pages();
    let others = ["README.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from);
    found.extend(others.into_iter().filter(|file| root().join(file).exists()));
    found
}

/// The fenced blocks of a Markdown text: the words after the fence, then the code.
fn fences(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(words) if !inside => found.push((words.to_owned(), String::new())),
            Some(_) => {}
            None => {
                if let (true, Some((_, code))) = (inside, found.last_mut()) {
                    code.push_str(line);
                    code.push('\n');
                }
                continue;
            }
        }
        inside = !inside;
    }
    assert!(!inside, "a fence is not closed");
    found
}

/// The text without its fenced blocks and without code spans.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            // A label of a link may be a code span: keep those.
            let line = line.replace("[`", "[\u{1}").replace("`]", "\u{1}]");
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose.replace('\u{1}', "`")
}

/// `[label]: target` lines.
fn definitions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    lines.map(|(label, target)| (label.to_owned(), target.to_owned())).collect()
}

/// `[label](target)` in prose.
fn inline_targets(prose: &str) -> Vec<String> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

fn is_file_name(word: &str) -> bool {
    let (_, ending) = word.rsplit_once('.').unwrap_or_default();
    ["md", "rs", "toml"].contains(&ending) && !word.contains([' ', '*', '<', '{'])
}

/// `[label]` in prose, if the label is a file name or code: what these documents link to.
fn labels(prose: &str) -> Vec<String> {
    let words = prose.split('[').skip(1).filter_map(|rest| {
        let (label, after) = rest.split_once(']')?;
        // `[text][label]` names its label in the second part.
        (!after.is_empty() && !after.starts_with(['(', ':']) && (is_file_name(label) || label.starts_with('`')))
            .then_some(label)
    });
    words.map(str::to_owned).collect()
}

fn assert_none(wrong: &[String], remedy: &str) {
    assert!(wrong.is_empty(), "{remedy}:\n  {}", wrong.join("\n  "));
}

#[test]
fn relative_links_lead_to_files() {
    let mut wrong = Vec::new();
    for file in documents() {
        let text = read(&file);
        let mut targets = inline_targets(&prose(&text));
        targets.extend(definitions(&text).into_iter().map(|(_, target)| target));
        for target in targets {
            let path = target.split('#').next().unwrap_or_default();
            let found = root().join(&file).parent().unwrap().join(path).exists();
            if !target.starts_with("https://") && !found {
                wrong.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert_none(&wrong, "a link leads nowhere");
}

/// The name of a page's module: `from-python.md` is `from_python`.
fn module_of(page: &str) -> String {
    page.trim_end_matches(".md").replace('-', "_")
}

#[test]
fn links_of_the_pages_work_in_a_markdown_viewer_and_in_rustdoc() {
    let for_rustdoc = definitions(&read("src/guide/links.md"));
    let mut wrong = Vec::new();
    for file in pages() {
        let text = read(&file);
        let own = definitions(&text);
        let says = |what: String| format!("{}: {what}", file.display());
        for target in inline_targets(&prose(&text)).iter().filter(|target| !target.starts_with("https://")) {
            wrong
                .push(says(format!("`]({target})` works only in a viewer: write `[label]`, and define it at the end")));
        }
        for label in labels(&prose(&text)) {
            if !own.iter().any(|(defined, _)| *defined == label) {
                wrong.push(says(format!("`[{label}]` is not defined on the page's last lines")));
            }
        }
        for (label, _) in own.iter().filter(|(_, target)| !target.starts_with("https://")) {
            if !for_rustdoc.iter().any(|(defined, _)| defined == label) {
                wrong.push(says(format!("`[{label}]` is not defined in src/guide/links.md")));
            }
        }
    }
    for (label, target) in for_rustdoc {
        let (label, fragment) = label.split_once('#').map_or((&*label, None), |(page, place)| (page, Some(place)));
        let expected = if label.starts_with('`') {
            continue; // An item, checked by rustdoc.
        } else if let Some(file) = label.strip_prefix("src/") {
            format!("../../../src/postlude/{file}.html")
        } else if root().join("docs").join(label).exists() {
            format!("crate::guide::{}", module_of(label))
        } else {
            format!("https://docs.rs/crate/postlude/latest/source/{label}")
        };
        let expected = fragment.map_or(expected.clone(), |place| format!("{expected}#{place}"));
        let exists = root().join("docs").join(label).exists() || root().join(label).exists();
        if target != expected || !exists {
            wrong.push(format!("src/guide/links.md: [{label}]: {target}, expected {expected}"));
        }
    }
    assert_none(&wrong, "a link that does not work everywhere");
}

#[test]
fn every_page_is_a_module_of_the_guide() {
    let guide = read("src/guide/mod.rs");
    for file in pages() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let module = module_of(&name);
        let included = format!("doc = include_str!(\"../../docs/{name}\")");
        let declared = guide.split("\n\n").any(|item| {
            let linked = item.starts_with("#[doc = include_str!(\"links.md\")]\n");
            linked && item.contains(&included) && item.trim_end().ends_with(&format!("pub mod {module} {{}}"))
        });
        assert!(declared, "src/guide/mod.rs lacks the page {name}; declare it like the others");
        assert!(guide.contains(&format!("//! | [`{module}`] |")), "the table in src/guide/mod.rs lacks `{module}`");
    }
}

/// Whether the lines occur in the file one after the other, whatever their indentation.
fn quotes(file: &str, code: &str) -> bool {
    let whole: Vec<_> = file.lines().map(str::trim).collect();
    let part: Vec<_> = code.lines().map(str::trim).collect();
    whole.windows(part.len()).any(|lines| lines == part)
}

#[test]
fn rust_code_in_the_documents_is_a_whole_program_or_quoted_from_an_example() {
    let examples: Vec<_> = files("examples", "rs").iter().map(read).collect();
    let mut wrong = Vec::new();
    for file in documents() {
        for (words, code) in fences(&read(&file)) {
            let words: Vec<_> = words.split(',').collect();
            let first = code.lines().find(|line| !line.is_empty()).unwrap_or_default();
            let says = |what: &str| format!("{}: the block that begins `{first}` {what}", file.display());
            if words[0].is_empty() {
                wrong.push(says("names no language"));
            }
            if words[0] != "rust" {
                continue;
            }
            if code.lines().any(|line| line == "#" || line.starts_with("# ")) {
                wrong.push(says("hides lines, which a Markdown viewer shows"));
            }
            if words.contains(&"ignore") {
                if !examples.iter().any(|example| quotes(example, &code)) {
                    wrong.push(says("is in no example"));
                }
            } else if !code.contains("fn main(") {
                wrong.push(says("has no `fn main`"));
            }
            if words.iter().any(|word| !["rust", "ignore", "no_run"].contains(word)) {
                wrong.push(says("is neither compiled nor quoted"));
            }
        }
    }
    assert_none(&wrong, "code that a reader cannot paste");
}

#[test]
fn the_crate_page_hides_no_lines_of_code() {
    let page = read("src/lib.rs");
    let lines: Vec<_> = page.lines().collect();
    // A heading stands between empty lines.
    let hidden = lines.windows(2).filter(|pair| pair[0].starts_with("//! # ") && pair[1] != "//!");
    let hidden: Vec<_> = hidden.map(|pair| pair[0].to_owned()).collect();
    assert_none(&hidden, "a hidden line, without which the block does not compile when pasted");
}

#[test]
fn files_that_tables_name_exist() {
    let mut wrong = Vec::new();
    for file in documents() {
        let text = read(&file);
        let rows = text.lines().filter(|line| line.starts_with('|'));
        for word in rows.flat_map(|row| row.split(['`', '[', ']', '(', ')']).map(str::to_owned).collect::<Vec<_>>()) {
            let named =
                ["src/", "examples/", "tests/", "benches/", "docs/"].iter().any(|folder| word.starts_with(folder));
            if named && !word.contains([' ', '*']) && !root().join(&word).exists() {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert_none(&wrong, "a table names a file that does not exist");
}

#[test]
fn the_trace_that_the_guide_quotes_is_what_the_example_prints() {
    let page = read("docs/reading.md");
    let quoted = fences(&page).into_iter().find(|(words, _)| words == "text").map(|(_, text)| text);
    assert_eq!(quoted.unwrap_or_default(), trace::trace().unwrap());
}

#[test]
fn functions_that_the_hours_route_names_exist() {
    let page = read("docs/reading.md");
    let (hour, _) = page.split_once("## A program, traced").unwrap();
    let code: String = files("src", "rs").iter().map(read).collect();
    let words = hour.split('`').skip(1).step_by(2);
    let names = words.filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let missing: Vec<_> = names.filter(|name| !code.contains(&format!("fn {name}"))).map(str::to_owned).collect();
    assert_none(&missing, "the route names a function that does not exist");
}

/// The lines of comments that are too long. A row of a table may be as long as it must, since
/// Markdown cannot break it.
fn long_comments(text: &str) -> Vec<usize> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            // An attribute can open a block, too.
            inside = line.contains("doc = \"```") && line.ends_with("\")]");
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        let limit = if inside { CODE_COLUMNS } else { PROSE_COLUMNS };
        if comment.starts_with("```") {
            inside = !inside;
        } else if line.chars().count() > limit && (inside || !comment.starts_with('|')) {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn comments_end_at_column_100() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        for file in files(folder, "rs") {
            for number in long_comments(&read(&file)) {
                wrong.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert_none(&wrong, "a comment beyond column 100, or code in one beyond 120");
}

#[test]
fn a_long_comment_is_found() {
    let long = "x".repeat(PROSE_COLUMNS);
    assert_eq!(long_comments(&format!("//! {long}\n    // {long}\nlet a; // {long}\n/// | {long} |")), [1, 2]);
    assert_eq!(long_comments(&format!("/// ```\n/// {long}\n/// ```\n/// {long}{long}")), [4]);
    assert_eq!(long_comments(&format!("/// ```\n/// {long}{long}\n/// ```")), [2]);
}
