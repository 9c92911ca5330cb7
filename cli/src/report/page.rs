//! Puts style, scripts and data into the page.

use anyhow::{Context, Result};

use super::Report;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const CHARTS: &str = include_str!("charts.js");
const SECTIONS: &str = include_str!("sections.js");

/// The whole page.
pub(super) fn render(report: &Report<'_>) -> Result<String> {
    let json = serde_json::to_string(report).context("cannot write the report's data")?;
    let parts = [
        ("{{title}}", escape_text(report.job)),
        ("{{style}}", STYLE.to_owned()),
        ("{{data}}", escape_script(&json)),
        ("{{charts}}", CHARTS.to_owned()),
        ("{{sections}}", SECTIONS.to_owned()),
    ];
    let mut page = String::with_capacity(PAGE.len() + json.len() + STYLE.len() + CHARTS.len() + SECTIONS.len());
    let mut rest = PAGE;
    // Each marker stands once and in this order, so that what a part holds is never taken for a marker.
    for (marker, part) in &parts {
        let (before, after) = rest.split_once(marker).with_context(|| format!("page.html lacks {marker}"))?;
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

/// Text between tags.
fn escape_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// JSON inside a script element: no `<` is left that could end it or begin a comment, and to JSON it is the same.
fn escape_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}
