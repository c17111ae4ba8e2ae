//! Charts as inline SVG: a bar for each peer, and cost against size as lines.

use std::fmt::Write as _;

use crate::peers::{FLOOR, OURS};
use crate::report::{Column, escape};
use crate::rounds::Row;

const WIDTH: f64 = 420.0;
const NAME: f64 = 90.0;
const VALUE: f64 = 80.0;
const BAR: f64 = 18.0;
/// A bar is cut where it is so many times as long as the shortest but the floor's.
const CUT: f64 = 8.0;

/// One row. A cut bar ends in a point.
pub fn bars(columns: &[Column], row: &Row) -> String {
    let unit = row.metric.unit;
    let summaries: Vec<_> = columns.iter().zip(&row.cells).map(|(column, cell)| (column, cell.summary())).collect();
    let shown = |floors: bool| {
        let some = summaries.iter().filter(move |(column, _)| floors || column.name != FLOOR);
        some.filter_map(|(_, summary)| Some(summary.as_ref()?.shown(unit)))
    };
    let (most, least) = (shown(true).fold(0.0, f64::max), shown(false).fold(f64::INFINITY, f64::min));
    let scale = if least > 0.0 && !unit.more_is_better() { most.min(least * CUT) } else { most }.max(f64::MIN_POSITIVE);
    let x = |value: f64| NAME + (value.clamp(0.0, scale) / scale) * (WIDTH - NAME - VALUE);
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {}' role=img>", BAR * summaries.len() as f64);
    for (number, (column, summary)) in summaries.iter().enumerate() {
        let top = number as f64 * BAR;
        let (middle, base) = (top + BAR / 2.0, top + BAR - 5.0);
        let _ = write!(svg, "<text x=0 y={base}>{}</text>", column.name);
        let Some(summary) = summary else {
            let _ = write!(svg, "<text x={NAME} y={base}>–</text>");
            continue;
        };
        let colour = match column.name {
            OURS => "var(--ours)",
            FLOOR => "var(--floor)",
            _ => "var(--bar)",
        };
        let value = summary.shown(unit);
        let (y, height, end) = (top + 3.0, BAR - 6.0, x(value));
        let _ = write!(svg, "<rect x={NAME} y={y} width={:.1} height={height} fill='{colour}'/>", end - NAME);
        let (low, high) = (x(summary.low), x(summary.high));
        let _ = write!(svg, "<path d='M{low:.1} {middle}H{high:.1}' stroke='var(--ink)' stroke-width=1.5 />");
        let cut = if value > scale { "▸ " } else { "" };
        let noisy = if summary.is_noisy() { "~" } else { "" };
        let place = end.max(high) + 4.0;
        let _ = write!(svg, "<text x={place:.1} y={base}>{cut}{}{noisy}</text>", unit.show(value));
    }
    svg + "</svg>"
}

const HEIGHT: f64 = 240.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 95.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 34.0;
const COLOURS: [&str; 6] = ["#2563eb", "#0891b2", "#16a34a", "#9333ea", "#ca8a04", "#db2777"];

/// The rows of one load, both axes logarithmic: a flat line is a cost that does not grow.
pub fn lines(columns: &[Column], rows: &[Row]) -> String {
    let unit = rows[0].metric.unit;
    let series: Vec<(&Column, Vec<(f64, f64)>)> = columns
        .iter()
        .enumerate()
        .map(|(number, column)| {
            let point = |row: &Row| Some((row.size as f64, row.cells[number].summary()?.shown(unit)));
            (column, rows.iter().filter_map(point).filter(|&(_, value)| value > 0.0).collect())
        })
        .collect();
    let values = || series.iter().flat_map(|(_, points)| points.iter().map(|&(_, value)| value.log10()));
    let (low, high) = (values().fold(f64::INFINITY, f64::min).floor(), values().fold(0.0, f64::max).ceil());
    let widest = rows.iter().map(|row| row.size as f64).fold(10.0, f64::max).log10();
    let x = |size: f64| LEFT + size.log10() / widest * (WIDTH - LEFT - RIGHT);
    let y = |log: f64| TOP + (high - log) / (high - low).max(1.0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>");
    let title = escape(&format!("{}: {}", rows[0].load, rows[0].about));
    let _ = write!(svg, "<title>{title}</title><text x=0 y=12>{}, {}</text>", rows[0].load, rows[0].metric.name);
    for power in low as i32..=high as i32 {
        let (place, label) = (y(power.into()), unit.show(10_f64.powi(power)));
        let end = WIDTH - RIGHT;
        let _ = write!(svg, "<path d='M{LEFT} {place:.1}H{end}' stroke='var(--dim)' stroke-width=0.4 />");
        let _ = write!(svg, "<text x=0 y={:.1}>{label}</text>", place + 4.0);
    }
    for row in rows {
        let place = x(row.size as f64);
        let _ = write!(svg, "<text x={place:.1} y={} text-anchor=middle>{}</text>", HEIGHT - 18.0, row.size);
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(svg, "<text x={middle} y={} text-anchor=middle>{}</text>", HEIGHT - 4.0, rows[0].size_of);
    let mut colours = COLOURS.iter().cycle();
    for (number, (column, points)) in series.iter().filter(|(_, points)| !points.is_empty()).enumerate() {
        let (colour, width) = match column.name {
            OURS => ("var(--ours)", 2.5),
            FLOOR => ("var(--dim)", 1.5),
            _ => (*colours.next().unwrap_or(&"black"), 1.3),
        };
        let mut path = String::new();
        for &(size, value) in points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(size), y(value.log10()));
            let (cx, cy) = (x(size), y(value.log10()));
            let _ = write!(svg, "<circle cx={cx:.1} cy={cy:.1} r={} fill='{colour}'/>", width + 0.7);
        }
        let _ = write!(svg, "<path d='{path}' fill=none stroke='{colour}' stroke-width={width} />");
        // A legend, not labels at the ends: lines that lie together would write over each other.
        let place = TOP + 14.0 * number as f64;
        let start = WIDTH - RIGHT + 12.0;
        let _ = write!(svg, "<rect x={start} y={place} width=9 height=9 fill='{colour}'/>");
        let _ = write!(svg, "<text x={} y={}>{}</text>", start + 13.0, place + 8.5, column.name);
    }
    svg + "</svg>"
}
