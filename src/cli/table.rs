//! Tables for people: columns that line up, colour where a terminal shows it.

use std::io::IsTerminal;

use crate::text::plain;

/// One column.
pub(super) struct Column {
    /// What stands above it.
    pub(super) title: &'static str,
    /// Numbers stand at its right edge.
    pub(super) is_number: bool,
}

/// A column of words.
pub(super) const fn words(title: &'static str) -> Column {
    Column { title, is_number: false }
}

/// A column of quantities.
pub(super) const fn quantities(title: &'static str) -> Column {
    Column { title, is_number: true }
}

/// Lays rows out below the titles of their columns. The first word of a row is a status, and coloured as one where
/// that can be seen. A column in which nothing stands is left out.
pub(super) fn render<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    // Other filesystems have attributes, too, and anybody may have written them.
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| plain(cell).into_owned())).collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let is_coloured = is_coloured();
    let mut text = line(&columns, &columns.each_ref().map(|column| column.title), &widths, |_| "");
    for row in &rows {
        let colour = |status: &str| if is_coloured { colour_of(status) } else { "" };
        text.push_str(&line(&columns, &row.each_ref().map(String::as_str), &widths, colour));
    }
    text
}

fn line<const N: usize>(
    columns: &[Column; N],
    cells: &[&str; N],
    widths: &[usize],
    colour: impl Fn(&str) -> &'static str,
) -> String {
    let mut line = String::new();
    for (at, ((column, cell), width)) in columns.iter().zip(cells).zip(widths).enumerate() {
        if *width == 0 && at > 0 {
            continue;
        }
        let width = (*width).max(column.title.chars().count());
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        let colour = if at == 0 { colour(cell) } else { "" };
        let end = if colour.is_empty() { "" } else { "\x1b[0m" };
        let (before, after) =
            if column.is_number { (padding, String::new()) } else { (String::new(), padding) };
        line.push_str(&format!("{before}{colour}{cell}{end}{after}  "));
    }
    format!("{}\n", line.trim_end())
}

/// Whether standard output shows colour, and whoever reads it wants it (no-color.org).
fn is_coloured() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

fn colour_of(status: &str) -> &'static str {
    match status {
        "active" | "success" | "good" => "\x1b[32m",
        "queued" | "saving" | "uploading" | "importing" | "pending" | "processing" => "\x1b[36m",
        "deactivated" | "warning" => "\x1b[33m",
        "killed" | "failure" | "bad" => "\x1b[31m",
        _ => "\x1b[2m",
    }
}
