//! Files as answers.

use std::fs;

use postlude::http::{Request, Router, files};

use crate::http::{exchange_with, get, server};

fn exchange(root: &std::path::Path, request: &str) -> String {
    let root = root.to_owned();
    let app = Router::new().get("/s/{*file}", async move |request: Request| files::serve(&root, "/s", &request).await);
    postlude::run(async { exchange_with(server(app), request).await }).unwrap()
}

#[test]
fn a_file_below_the_root_is_sent_and_nothing_else() {
    let base = std::env::temp_dir().join(format!("postlude-files-{}", std::process::id()));
    let root = base.join("root");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("a b.txt"), "text").unwrap();
    fs::write(root.join(".hidden"), "no").unwrap();
    fs::write(base.join("secret"), "no").unwrap();
    std::os::unix::fs::symlink(base.join("secret"), root.join("link")).unwrap();
    let answer = exchange(&root, &get("/s/a%20b.txt"));
    assert!(answer.contains("text/plain") && answer.contains("\r\ntext\r\n"), "{answer}");
    for path in ["/s/../secret", "/s/%2e%2e/secret", "/s/..%2fsecret", "/s/.hidden", "/s/link", "/s/none"] {
        assert!(!exchange(&root, &get(path)).starts_with("HTTP/1.1 200"), "{path}");
    }
    let tag = answer.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let again = format!("GET /s/a%20b.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", {tag}\r\n\r\n");
    assert!(exchange(&root, &again).starts_with("HTTP/1.1 304"));
    fs::remove_dir_all(base).unwrap();
}
