//! The command line.

use std::path::PathBuf;

use crate::http;
use crate::loads::Load;
use crate::peers;
use crate::report::Column;
use crate::rounds::Run;

pub const HELP: &str = "\
Measures Postlude, other single-threaded runtimes, and no runtime at all, side by side.

  cargo run --release --manifest-path benches/peers/Cargo.toml -- [http] [OPTION]...

With `http` it drives servers with wrk: ours, hyper, axum, monoio, one by hand, FastAPI where
python3 has it. Without, it measures runtimes.

Each measurement is a process of its own, and the peers take turns. The table shows the best of
the rounds: CPU time per operation if a row says nothing else. A `~` marks values whose quartiles
are too far apart to mean anything.

  --only LOAD,...    these loads; --list names them, and `spawn` names all that begin so
  --peers PEER,...   these peers
  --quick            a fifth of the operations, 3 rounds, sizes up to 10 000: about a minute;
                     with http one round of a second: two minutes
  --rounds N         rounds; from 7 on the quartiles mean something. Default 11, about ten
                     minutes; with http 7, a quarter of an hour
  --instructions     instructions per operation, counted by valgrind, in place of times
  --syscalls         system calls per operation, counted by strace or perf, in place of times
  --out DIR          where report.html (.json, .csv) goes, or http.html
                     (default: benches/peers/target/report)
  --list             names the peers and the loads
  --help             this text
";

/// Fewer than seven tell no quartiles.
const ROUNDS: usize = 11;
/// Those of servers take a quarter of an hour.
const SERVER_ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;
/// A quick run does this part of the operations.
const QUICK_PART: u64 = 5;
const QUICK_SIZE: u64 = 10_000;

#[derive(Debug)]
pub enum Command {
    Help,
    List,
    /// Started by this program itself: one measurement, in the process that was started for it.
    Run(Run),
    /// Likewise: the server of that name.
    Serve(String),
    Compare(Options),
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Servers in place of runtimes.
    pub http: bool,
    only: Vec<String>,
    peers: Vec<String>,
    pub quick: bool,
    pub rounds: usize,
    pub instructions: bool,
    pub syscalls: bool,
    pub out: PathBuf,
}

impl Command {
    pub fn parse(arguments: Vec<String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter().peekable();
        if arguments.next_if_eq("run").is_some() {
            return Run::parse(&arguments.collect::<Vec<_>>()).map(Self::Run);
        }
        if arguments.next_if_eq("serve").is_some() {
            return arguments.next().map(Self::Serve).ok_or("serve takes the name of a server".to_owned());
        }
        let out = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/report"));
        let mut options = Options {
            http: arguments.next_if_eq("http").is_some(),
            only: Vec::new(),
            peers: Vec::new(),
            quick: false,
            rounds: 0,
            instructions: false,
            syscalls: false,
            out,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--list" => return Ok(Self::List),
                "--only" => options.only = names(&value()?),
                "--peers" => options.peers = names(&value()?),
                "--quick" => options.quick = true,
                "--instructions" => options.instructions = true,
                "--syscalls" => options.syscalls = true,
                "--out" => options.out = value()?.into(),
                "--rounds" => {
                    let text = value()?;
                    let number = text.parse().ok().filter(|&rounds| rounds > 0);
                    options.rounds = number.ok_or(format!("--rounds takes a number from 1 on, not `{text}`"))?;
                }
                _ => return Err(format!("unknown argument `{argument}`")),
            }
        }
        if options.rounds == 0 {
            options.rounds = match (options.quick, options.http) {
                (true, true) => 1,
                (true, false) => QUICK_ROUNDS,
                (false, true) => SERVER_ROUNDS,
                (false, false) => ROUNDS,
            };
        }
        options.check()?;
        Ok(Self::Compare(options))
    }
}

fn names(text: &str) -> Vec<String> {
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

impl Options {
    fn check(&self) -> Result<(), String> {
        let loads: Vec<_> = if self.http {
            http::DRIVES.iter().map(|drive| drive.name).collect()
        } else {
            (peers::ALL[0].loads)().iter().map(|load| load.name).collect()
        };
        let peers: Vec<_> = if self.http {
            http::ALL.iter().map(|entry| entry.column.name).collect()
        } else {
            peers::ALL.iter().map(|entry| entry.column.name).collect()
        };
        if let Some(name) = self.only.iter().find(|name| !loads.iter().any(|load| load.starts_with(name.as_str()))) {
            return Err(format!("no load is called `{name}`"));
        }
        if let Some(name) = self.peers.iter().find(|name| !peers.contains(&name.as_str())) {
            return Err(format!("no peer is called `{name}`"));
        }
        if self.http && (self.instructions || self.syscalls) {
            return Err("servers are not counted: --instructions and --syscalls are for runtimes".to_owned());
        }
        Ok(())
    }

    fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == name)
    }

    fn wants_load(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }

    pub fn contestants(&self) -> Vec<&'static peers::Entry> {
        peers::ALL.iter().filter(|entry| self.wants_peer(entry.column.name)).collect()
    }

    pub fn servers(&self) -> Vec<&'static http::Entry> {
        http::ALL.iter().filter(|entry| self.wants_peer(entry.column.name)).collect()
    }

    pub fn drives(&self) -> Vec<&'static http::Drive> {
        http::DRIVES.iter().filter(|drive| self.wants_load(drive.name)).collect()
    }

    pub fn columns(&self) -> Vec<Column> {
        self.contestants().iter().map(|entry| entry.column).collect()
    }

    /// The loads to run, with as many operations as this run does.
    pub fn loads(&self) -> Vec<Load> {
        let mut loads = (peers::ALL[0].loads)();
        loads.retain(|load| self.wants_load(load.name));
        if self.quick {
            for load in &mut loads {
                load.operations /= QUICK_PART;
                load.warm_up /= QUICK_PART;
            }
        }
        loads
    }

    pub fn wants_size(&self, size: u64) -> bool {
        !self.quick || size <= QUICK_SIZE
    }
}
