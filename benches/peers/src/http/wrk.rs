//! wrk (Debian has it as `wrk`): one thread of it on this process's core.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::target::Target;
use crate::rounds;

/// How wrk asks.
pub enum Script {
    Plain,
    Pipelined,
    /// `Connection: close`
    Close,
    /// A body of so many bytes.
    Upload(usize),
}

impl Script {
    fn lua(&self) -> Option<String> {
        match self {
            Self::Plain | Self::Close => None,
            Self::Pipelined => Some(
                "init = function(args)\n  local all = {}\n  for i = 1, 16 do all[i] = wrk.format() end\n  \
                 requests = table.concat(all)\nend\nrequest = function() return requests end\n"
                    .to_owned(),
            ),
            Self::Upload(length) => Some(format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {length})\n")),
        }
    }
}

/// What wrk has seen.
pub struct Seen {
    pub requests: u64,
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
}

/// Is an error if wrk is not installed.
pub fn find() -> Result<(), String> {
    // Its `--version` exits with 1.
    let started = Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    started.map(drop).map_err(|_| "the servers are driven by wrk, which is not installed here".to_owned())
}

pub fn drive(target: &Target, path: &str, script: &Script, connections: u32, time: Duration) -> Result<Seen, String> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{}s", time.as_secs())]);
    let file = script.lua().map(LuaFile::new).transpose()?;
    if let Some(LuaFile(file)) = &file {
        command.arg("-s").arg(file);
    }
    if matches!(script, Script::Close) {
        command.args(["-H", "Connection: close"]);
    }
    let text = rounds::output(command.arg(format!("http://{}{path}", target.address)))?;
    read(&text)
}

/// A script in a file, as wrk wants it.
struct LuaFile(PathBuf);

impl LuaFile {
    fn new(text: String) -> Result<Self, String> {
        let file = std::env::temp_dir().join(format!("peers-{}.lua", std::process::id()));
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(Self(file))
    }
}

impl Drop for LuaFile {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads wrk's report; an answer that is no 2xx or 3xx fails it, and so does a broken connection.
fn read(text: &str) -> Result<Seen, String> {
    let mut lines = text.lines().map(str::trim);
    if let Some(line) = lines.clone().find(|line| line.starts_with("Non-2xx") || line.starts_with("Socket errors")) {
        return Err(line.to_owned());
    }
    let number = |text: &str| text.split_whitespace().next()?.parse::<f64>().ok();
    let requests = lines.clone().find(|line| line.contains(" requests in ")).and_then(number);
    let rate = lines.clone().find_map(|line| line.strip_prefix("Requests/sec:")).and_then(number);
    let mut latency = |percent: &str| lines.find_map(|line| line.strip_prefix(percent)).and_then(nanoseconds);
    let (p50, p99) = (latency("50%"), latency("99%"));
    match (requests, rate, p50, p99) {
        (Some(requests), Some(rate), Some(p50), Some(p99)) if requests > 0.0 => {
            Ok(Seen { requests: requests as u64, rate, p50, p99 })
        }
        _ => Err(format!("wrk said: {}", text.lines().last().unwrap_or("nothing"))),
    }
}

/// `1.23ms`
fn nanoseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
    let factor = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 6e10,
        _ => return None,
    };
    text.strip_suffix(unit)?.parse::<f64>().ok().map(|value| value * factor)
}

#[cfg(test)]
mod tests {
    use super::read;

    const REPORT: &str = "\
Running 1s test @ http://127.0.0.1:1234/plaintext
  1 threads and 64 connections
  Latency Distribution
     50%  603.00us
     75%  644.00us
     90%  703.00us
     99%    1.21ms
  105234 requests in 1.10s, 12.95MB read
Requests/sec:  95612.23
Transfer/sec:     11.76MB
";

    #[test]
    fn a_report_is_read() {
        let seen = read(REPORT).unwrap();
        assert_eq!((seen.requests, seen.rate, seen.p50, seen.p99), (105_234, 95_612.23, 603e3, 1.21e6));
    }

    #[test]
    fn an_answer_that_is_no_2xx_fails() {
        let error = read(&format!("{REPORT}  Non-2xx or 3xx responses: 7\n")).err();
        assert_eq!(error.as_deref(), Some("Non-2xx or 3xx responses: 7"));
    }
}
