//! The folders of `src/http`: arrows between them point down only.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; whatever is in none of them stands on top.
const FLOORS: [&str; 4] = ["wire", "background", "app", "conn"];

fn floor_of(name: &str) -> usize {
    FLOORS.iter().position(|floor| *floor == name).unwrap_or(FLOORS.len())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The words behind each occurrence of the prefix.
fn names_behind<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(prefix).skip(1).map(move |rest| rest.split(|character| !is_part(character)).next().unwrap())
}

#[test]
fn a_folder_of_http_imports_only_the_folders_below_it() {
    let root = Path::new("src/http");
    let files = files_below(root);
    assert!(files.len() > 30, "run in the package's directory: {files:?}");
    for file in files {
        let within = file.strip_prefix(root).unwrap();
        let folder = within.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let source = fs::read_to_string(&file).unwrap();
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        assert!(!code.contains("crate::http::{"), "one import a line, to be read here: {}", file.display());
        // In a file of a folder, `super` is the folder, which is a floor of its own; beside the folders it is `http`.
        let prefix = if within.iter().count() > 1 { "super::super::" } else { "super::" };
        for name in names_behind(&code, "crate::http::").chain(names_behind(&code, prefix)) {
            let may = floor_of(name) < floor_of(folder) || name == folder || name.is_empty();
            assert!(may, "{} imports {name}", file.display());
        }
        assert!(folder != "wire" || !code.contains("crate::"), "{} is to stand alone", file.display());
    }
}
