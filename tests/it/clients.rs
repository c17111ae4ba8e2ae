//! What real clients found; `tests/clients/run` drives them.

use postlude::http::Router;

use crate::http::{exchange_with, paused, server};

/// curl uploads with `Expect: 100-continue` and is to be told what is wrong: not the size, if there
/// is nothing to upload to.
#[test]
fn a_large_upload_to_what_is_not_there_is_not_found_rather_than_too_large() {
    let app = || Router::new().get("/here", async || "here");
    for (path, status) in [("/none", "404"), ("/here", "405")] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let request = format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: 3000000\r\n\r\n");
            let answer = paused(exchange_with(server(app()), &request));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains("connection: close\r\n") && !answer.contains("100 Continue"), "{answer}");
        }
    }
}
