//! The report: a table on the terminal as it goes, and in the end an HTML page without anything
//! from elsewhere, JSON with every round, and CSV.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::loads::Unit;
use crate::peers::{FLOOR, OURS};
use crate::plot;
use crate::rounds::{Cell, Row};
use crate::statistics::{ROUNDS, Summary};

/// A contestant's place in every row.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub mode: &'static str,
}

impl Cell {
    pub fn summary(&self) -> Option<Summary> {
        match self {
            Self::Values(values) => Summary::of(values),
            Self::NotOffered(_) | Self::Failed(_) => None,
        }
    }

    fn text(&self, unit: Unit) -> String {
        match (self, self.summary()) {
            (_, Some(summary)) => {
                format!("{}{}", unit.show(summary.shown(unit)), if summary.is_noisy() { "~" } else { "" })
            }
            (Self::Failed(_), _) => "failed".to_owned(),
            _ => "–".to_owned(),
        }
    }
}

impl Summary {
    /// The round that was disturbed least.
    pub fn shown(&self, unit: Unit) -> f64 {
        if unit.more_is_better() { self.most } else { self.least }
    }
}

impl Unit {
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond)
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => scaled(value, &[("ns", 1e3), ("µs", 1e3), ("ms", 1e3), ("s", f64::INFINITY)]),
            Self::Bytes => scaled(value, &[("B", 1024.0), ("KiB", 1024.0), ("MiB", 1024.0), ("GiB", f64::INFINITY)]),
            Self::PerSecond => scaled(value, &[("/s", 1e4), ("k/s", 1e3), ("M/s", f64::INFINITY)]),
            Self::Instructions | Self::SystemCalls => short(value),
        }
    }
}

/// With the first unit of which the value has less than the next one's worth.
fn scaled(mut value: f64, units: &[(&str, f64)]) -> String {
    for (unit, next) in units {
        if value < *next {
            return format!("{} {unit}", short(value));
        }
        value /= if *next == 1e4 { 1e3 } else { *next };
    }
    short(value)
}

/// Three digits.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

impl Row {
    pub fn title(&self) -> String {
        let size = if self.size_of.is_empty() { String::new() } else { format!(", {} {}", self.size, self.size_of) };
        let metric = if self.metric.name == "CPU" { String::new() } else { format!(": {}", self.metric.name) };
        format!("{}{size}{metric}", self.load)
    }

    fn value(&self, columns: &[Column], name: &str) -> Option<f64> {
        let number = columns.iter().position(|column| column.name == name)?;
        Some(self.cells[number].summary()?.shown(self.metric.unit))
    }

    /// The best value of those that are neither ours nor the floor.
    fn best_peer(&self, columns: &[Column]) -> Option<f64> {
        let peers = columns.iter().filter(|column| column.name != OURS && column.name != FLOOR);
        let values = peers.filter_map(|column| self.value(columns, column.name));
        values.reduce(if self.metric.unit.more_is_better() { f64::max } else { f64::min })
    }

    /// How many times as much as another value this is; above one is worse.
    fn ratio(&self, value: f64, other: Option<f64>) -> Option<f64> {
        let other = other?;
        let ratio = if self.metric.unit.more_is_better() { other / value } else { value / other };
        ratio.is_finite().then_some(ratio)
    }

    /// Whether our value or the best peer's varies so much that the row decides nothing.
    fn is_meaningless(&self, columns: &[Column]) -> bool {
        let best = self.best_peer(columns);
        columns.iter().zip(&self.cells).any(|(column, cell)| {
            let Some(summary) = cell.summary() else { return false };
            let counts = column.name == OURS || best == Some(summary.shown(self.metric.unit));
            counts && summary.is_noisy()
        })
    }
}

const TITLE_WIDTH: usize = 52;

pub fn print_header(columns: &[Column], what: &str) {
    println!();
    columns.iter().for_each(|column| println!("{:12} {}", column.name, column.mode));
    print!("\n{what:TITLE_WIDTH$}");
    columns.iter().for_each(|column| print!("{:>12}", column.name));
    println!("{:>10}{:>10}", "× best", "× floor");
}

pub fn print_row(columns: &[Column], row: &Row) {
    let mark = if row.is_meaningless(columns) { "~ " } else { "" };
    print!("{:TITLE_WIDTH$}", format!("{mark}{}", row.title()));
    row.cells.iter().for_each(|cell| print!("{:>12}", cell.text(row.metric.unit)));
    let ours = row.value(columns, OURS);
    for other in [row.best_peer(columns), row.value(columns, FLOOR)] {
        let ratio = ours.and_then(|ours| row.ratio(ours, other));
        print!("{:>10}", ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")));
    }
    println!();
    for (column, cell) in columns.iter().zip(&row.cells) {
        if let Cell::Failed(text) = cell {
            println!("  {}: {text}", column.name);
        }
    }
}

/// Everything that the three files tell.
pub struct Report<'a> {
    pub title: &'a str,
    pub machine: &'a str,
    /// How the numbers came about.
    pub method: String,
    pub columns: &'a [Column],
    pub rows: &'a [Row],
}

impl Report<'_> {
    /// Writes the files, named so, and returns a line that says where they are.
    pub fn write(&self, folder: &Path, name: &str) -> Result<String, String> {
        let failed = |error| format!("cannot write to {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(failed)?;
        let json = serde_json::to_string_pretty(&self.json()).map_err(|error| error.to_string())?;
        for (extension, text) in [("html", self.html()), ("json", json), ("csv", self.csv())] {
            fs::write(folder.join(format!("{name}.{extension}")), text).map_err(failed)?;
        }
        Ok(format!("{} (.json, .csv)", folder.join(format!("{name}.html")).display()))
    }

    fn json(&self) -> Value {
        let columns: Vec<_> =
            self.columns.iter().map(|column| json!({ "name": column.name, "mode": column.mode })).collect();
        let rows: Vec<_> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({ "machine": self.machine, "method": self.method, "peers": columns, "rows": rows })
    }

    fn row_json(&self, row: &Row) -> Value {
        let cell = |(column, cell): (&Column, &Cell)| match cell {
            Cell::Values(values) => json!({ "peer": column.name, "rounds": values }),
            Cell::NotOffered(what) => json!({ "peer": column.name, "not_offered": what }),
            Cell::Failed(text) => json!({ "peer": column.name, "failed": text }),
        };
        json!({
            "load": row.load, "about": row.about, "size": row.size, "size_of": row.size_of,
            "metric": row.metric.name, "unit": row.metric.unit.name(),
            "meaningless": row.is_meaningless(self.columns),
            "cells": self.columns.iter().zip(&row.cells).map(cell).collect::<Vec<_>>(),
        })
    }

    fn csv(&self) -> String {
        let mut text = "load,size,metric,unit,peer,least,quartile 1,median,quartile 3,rounds,noisy\n".to_owned();
        for row in self.rows {
            for (column, cell) in self.columns.iter().zip(&row.cells) {
                let Some(summary) = cell.summary() else { continue };
                let Summary { least, low, median, high, rounds, .. } = summary;
                let (load, size, metric, unit) = (&row.load, row.size, row.metric.name, row.metric.unit.name());
                let (name, noisy) = (column.name, summary.is_noisy());
                let numbers = format!("{least},{low},{median},{high},{rounds},{noisy}");
                let _ = writeln!(text, "{load},{size},{metric},{unit},{name},{numbers}");
            }
        }
        text
    }

    fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=en><meta charset=utf-8><title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n",
            escape(self.title)
        );
        let _ = writeln!(page, "<p>{}</p>\n<p>{}</p>", escape(self.machine), escape(&self.method));
        page.push_str(LEGEND);
        page.push_str("<h2>Peers</h2>\n<table>\n");
        for column in self.columns {
            let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", column.name, escape(column.mode));
        }
        page.push_str("</table>\n<h2>All rows</h2>\n");
        self.overview(&mut page);
        page.push_str("<h2>Cost against size</h2>\n<div class=charts>\n");
        for rows in self.rows.chunk_by(|one, other| one.load == other.load && one.metric == other.metric) {
            if rows[0].plotted {
                let _ = writeln!(page, "<figure>{}</figure>", plot::lines(self.columns, rows));
            }
        }
        page.push_str("</div>\n<h2>Row by row</h2>\n<div class=charts>\n");
        for row in self.rows {
            self.details(row, &mut page);
        }
        page.push_str("</div>\n</html>\n");
        page
    }

    fn overview(&self, page: &mut String) {
        page.push_str("<table><tr><th></th>");
        self.columns.iter().for_each(|column| {
            let _ = write!(page, "<th title='{}'>{}</th>", escape(column.mode), column.name);
        });
        page.push_str("<th>× best peer</th><th>× floor</th></tr>\n");
        for row in self.rows {
            let mark = if row.is_meaningless(self.columns) { "~ " } else { "" };
            let _ = write!(page, "<tr><th title='{}'>{mark}{}</th>", escape(&row.about), escape(&row.title()));
            for (column, cell) in self.columns.iter().zip(&row.cells) {
                let why = match cell {
                    Cell::NotOffered(text) => format!("does not offer {text}"),
                    Cell::Failed(text) => text.clone(),
                    Cell::Values(_) => String::new(),
                };
                let class = if column.name == OURS { " class=ours" } else { "" };
                let _ = write!(page, "<td{class} title='{}'>{}</td>", escape(&why), cell.text(row.metric.unit));
            }
            let ours = row.value(self.columns, OURS);
            for other in [row.best_peer(self.columns), row.value(self.columns, FLOOR)] {
                let ratio = ours.and_then(|ours| row.ratio(ours, other));
                let class = if ratio.is_some_and(|ratio| ratio > 1.0) { "worse" } else { "better" };
                let text = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
                let _ = write!(page, "<td class={class}>{text}</td>");
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table>\n");
    }

    fn details(&self, row: &Row, page: &mut String) {
        let _ = writeln!(
            page,
            "<figure><figcaption><b>{}</b><br>{}</figcaption>\n{}\n<details><summary>quartiles</summary><table>\
             <tr><th></th><th>least</th><th>quartile</th><th>median</th><th>quartile</th><th>most</th>\
             <th>× best peer</th><th>× floor</th></tr>",
            escape(&row.title()),
            escape(&row.about),
            plot::bars(self.columns, row),
        );
        let (best, floor) = (row.best_peer(self.columns), row.value(self.columns, FLOOR));
        for (column, cell) in self.columns.iter().zip(&row.cells) {
            let Some(summary) = cell.summary() else { continue };
            let _ = write!(page, "<tr><th>{}{}</th>", column.name, if summary.is_noisy() { "~" } else { "" });
            for value in [summary.least, summary.low, summary.median, summary.high, summary.most] {
                let _ = write!(page, "<td>{}</td>", row.metric.unit.show(value));
            }
            for other in [best, floor] {
                let ratio = row.ratio(summary.shown(row.metric.unit), other);
                let _ =
                    write!(page, "<td>{}</td>", ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table></details></figure>\n");
    }
}

/// How a run with so many rounds is described.
pub fn method(rounds: usize, quick: bool) -> String {
    let quick = if quick { " A quick run: a fifth of the operations, and no large sizes." } else { "" };
    let few = if rounds < ROUNDS { format!(" Fewer than {ROUNDS} rounds decide nothing.") } else { String::new() };
    format!("{rounds} rounds, each measurement in a process of its own, the peers taking turns.{quick}{few}")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

const LEGEND: &str = "<p>A value is that of the best round: CPU time per operation, or per request, if the row names nothing \
    else. A bar is the best round, and its whisker \
    goes from the first quartile to the third. A ratio is ours (or the peer's) to the best runtime that is neither \
    ours nor the floor, and to the floor; above one is worse. <b>~</b> stands where the quartiles are further apart \
    than a fifth of the median: run it again on a quieter machine. A dash: the runtime has no such thing.</p>\n";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: light-dark(#222, #ddd); --dim: light-dark(#999, #777);
  --ours: light-dark(#c2410c, #fb923c); --bar: light-dark(#94a3b8, #64748b); --floor: light-dark(#cbd5e1, #475569); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1400px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th { text-align: left; font-weight: 500; } td { text-align: right; }
td, th { padding: 2px 10px; border-bottom: 1px solid color-mix(in srgb, var(--dim) 30%, transparent); }
.ours { font-weight: 600; } .worse { color: #dc2626; } .better { color: #16a34a; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)); gap: 1.5em; }
figure { margin: 0; } figcaption, summary { font-size: 13px; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
";
