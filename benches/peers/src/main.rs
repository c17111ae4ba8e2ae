//! The yardstick: Postlude beside other single-threaded runtimes, and beside no runtime at all.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` measures everything and writes a
//! report; [`HELP`] says what else there is.
//!
//! - `peer.rs` is the trait of a runtime, `peers/` has a file for each.
//! - `loads/` has the work, generic over that trait.
//! - `http/` has servers and drives them, `-- http`.
//! - `rounds.rs` starts this program again for each measurement, `counts.rs` does so below valgrind
//!   or strace.
//! - `statistics.rs`, `report.rs` and `plot.rs` make the report.

mod counts;
mod http;
mod loads;
mod machine;
mod options;
mod peer;
mod peers;
mod plot;
mod report;
mod rounds;
mod statistics;

use std::process::ExitCode;

use options::{Command, HELP, Options};
use report::Report;

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args().skip(1).collect()) {
        Ok(command) => command,
        Err(text) => {
            eprintln!("peers: {text}; try --help");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::List => {
            list();
            Ok(())
        }
        Command::Run(run) => {
            rounds::run_here(&run);
            Ok(())
        }
        Command::Serve(name) => http::serve_here(&name),
        Command::Compare(options) => compare(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("peers: {text}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for entry in &peers::ALL {
        println!("{:18} {}", entry.column.name, entry.column.mode);
    }
    println!();
    for load in (peers::ALL[0].loads)() {
        println!("{:18} {}", load.name, load.about);
    }
    println!("\nhttp:\n");
    http::ALL.iter().for_each(|entry| println!("{:18} {}", entry.column.name, entry.column.mode));
    println!();
    http::DRIVES.iter().for_each(|drive| println!("{:18} {}", drive.name, drive.about));
}

fn compare(options: &Options) -> Result<(), String> {
    let machine = machine::line();
    println!("{machine}");
    let (mut columns, mut rows) = (options.columns(), Vec::new());
    if options.http {
        (columns, rows) = http::measure(options)?;
    } else if options.instructions || options.syscalls {
        if options.instructions {
            rows.extend(counts::instructions(options)?);
        }
        if options.syscalls {
            rows.extend(counts::system_calls(options)?);
        }
    } else {
        rows.extend(rounds::measure(options)?);
    }
    let (name, title) = if options.http { ("http", "HTTP servers") } else { ("report", "Postlude and its peers") };
    let method = if options.instructions || options.syscalls {
        counts::METHOD.to_owned()
    } else {
        report::method(options.rounds, options.quick)
    };
    let report = Report { title, machine: &machine, method, columns: &columns, rows: &rows };
    let files = report.write(&options.out, name)?;
    println!("\n{files}");
    Ok(())
}
