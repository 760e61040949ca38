//! An image's sizes by component, as a picture (SVG). Pure.

use crate::report::{Component, Report};
use std::fmt::Write;

/// Pixels: of the picture, where bars begin, and of a bar.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 120.0;
const BAR: f64 = 34.0;
const LABEL: f64 = 90.0;

/// Two bars for each component: before compression, and under zstd; and one for all that a machine
/// downloads, against its budget.
pub fn sizes(report: &Report) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let download = report.image.as_ref().map_or(0, |image| image.bytes());
    let most = report.components.values().map(|component| component.bytes);
    let most = most.chain([download, report.budget, 1]).max().unwrap_or(1);
    let scale = (WIDTH - LEFT - LABEL) / mb(most);
    let height = BAR * (report.components.len() as f64 + 2.0) + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut bar = |y: f64, bytes: u64, height: f64, colour: &str, text: &str| {
        let width = mb(bytes) * scale;
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{height}\" \
             fill=\"{colour}\"/>\n<text x=\"{:.1}\" y=\"{:.0}\">{text}</text>",
            LEFT + width + 5.0,
            y + height - 1.0
        );
    };
    let mut y = 14.0;
    let mut names = Vec::new();
    for (name, Component { bytes, compressed, .. }) in &report.components {
        bar(y, *bytes, 11.0, "#b9c7d6", &format!("{:.2} MB", mb(*bytes)));
        bar(
            y + 12.0,
            *compressed,
            11.0,
            "#2f5d8a",
            &format!("{:.2} MB under zstd", mb(*compressed)),
        );
        names.push((y, name.as_str()));
        y += BAR;
    }
    bar(y, report.budget, 11.0, "#dddddd", &format!("budget {:.1} MB", mb(report.budget)));
    let colour = if download <= report.budget { "#3c7d4f" } else { "#b03a2e" };
    bar(y + 12.0, download, 11.0, colour, &format!("{:.1} MB to download", mb(download)));
    names.push((y, "in all"));
    for (y, name) in names {
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.0}\">{name}</text>", y + 15.0);
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_its_bars_and_all_of_them_lie_in_the_picture() {
        let mut report = Report { budget: 25_000_000, ..Report::default() };
        let component = Component { files: 1, bytes: 44_000_000, compressed: 9_000_000 };
        report.components.insert("modules".into(), component);
        report.components.insert("init".into(), Component { bytes: 1, ..component });
        let svg = sizes(&report);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<rect x=").count(), 6);
        assert!(svg.contains(">modules<") && svg.contains("44.00 MB<"), "{svg}");
        let widest = svg.split("width=\"").filter_map(|part| part.split('"').next()?.parse().ok());
        assert!(widest.fold(0.0, f64::max) <= WIDTH, "{svg}");
    }
}
