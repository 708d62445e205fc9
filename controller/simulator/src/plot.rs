//! Drawings of a run, as SVG: throughput, servers and jobs, price. Written by hand, as a plot is
//! nothing but lines and numbers.

use std::fmt::Write;

use crate::{Report, Sample};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 200.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const GAP: f64 = 56.0;

struct Line {
    label: &'static str,
    colour: &'static str,
    of: fn(&Sample) -> f64,
}

struct Panel {
    title: &'static str,
    lines: &'static [Line],
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "throughput, GB/s",
        lines: &[
            Line {
                label: "of the servers",
                colour: "#9aa5b1",
                of: |sample| sample.servers_bytes_per_second as f64 / 1e9,
            },
            Line {
                label: "promised to jobs",
                colour: "#1f77b4",
                of: |sample| sample.given_bytes_per_second as f64 / 1e9,
            },
            Line {
                label: "wanted by jobs",
                colour: "#d62728",
                of: |sample| sample.wanted_bytes_per_second as f64 / 1e9,
            },
        ],
    },
    Panel {
        title: "servers and jobs",
        lines: &[
            Line {
                label: "servers",
                colour: "#1f77b4",
                of: |sample| sample.servers as f64,
            },
            Line {
                label: "jobs running",
                colour: "#2ca02c",
                of: |sample| sample.running as f64,
            },
            Line {
                label: "jobs waiting",
                colour: "#d62728",
                of: |sample| sample.waiting as f64,
            },
        ],
    },
    Panel {
        title: "price of the servers, $/h",
        lines: &[Line {
            label: "price",
            colour: "#1f77b4",
            of: |sample| sample.price,
        }],
    },
];

/// A report's course as an SVG document.
pub fn plot(report: &Report) -> String {
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP);
    let seconds = report.samples.last().map_or(1, |last| last.second.max(1)) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, panel) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP);
        draw(&mut svg, panel, &report.samples, seconds, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, samples: &[Sample], seconds: f64, top: f64) {
    let values = panel
        .lines
        .iter()
        .flat_map(|line| samples.iter().map(line.of));
    let most = round_up(values.fold(0.0, f64::max));
    let across = WIDTH - LEFT - RIGHT;
    let x = |second: f64| LEFT + across * second / seconds;
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    text(svg, LEFT, top - 10.0, "start", panel.title);
    for quarter in 0..=4 {
        let value = most * f64::from(quarter) / 4.0;
        let at = y(value);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#e4e7eb\"/>",
            WIDTH - RIGHT
        );
        text(svg, LEFT - 6.0, at + 4.0, "end", &number(value));
        let second = seconds * f64::from(quarter) / 4.0;
        text(
            svg,
            x(second),
            top + PANEL + 16.0,
            "middle",
            &format!("{}s", number(second)),
        );
    }
    let mut legend = WIDTH - RIGHT;
    for line in panel.lines.iter().rev() {
        let mut points = String::new();
        for sample in samples {
            let _ = write!(
                points,
                "{:.1},{:.1} ",
                x(sample.second as f64),
                y((line.of)(sample))
            );
        }
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
            line.colour,
            points.trim_end()
        );
        let _ = writeln!(
            svg,
            "<text x=\"{legend:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{}\">{}</text>",
            top - 10.0,
            line.colour,
            line.label
        );
        legend -= line.label.len() as f64 * 7.0 + 16.0;
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#323f4b\">{words}</text>"
    );
}

/// The next larger of 1, 2, 4, 5, 8 or 10 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps.iter().find(|step| *step * power >= value);
    step.copied().unwrap_or(10.0) * power
}

/// Without needless digits.
fn number(value: f64) -> String {
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_every_line_and_stays_within_its_frame() {
        let samples = (0..100).map(|second| Sample {
            second,
            wanted_bytes_per_second: second * 1_000_000_000,
            servers: second as usize,
            price: second as f64,
            ..Sample::default()
        });
        let report = Report {
            samples: samples.collect(),
            ..Report::default()
        };
        let svg = plot(&report);
        assert_eq!(svg.matches("<polyline").count(), 7);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let points = svg
            .split("points=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for point in points.flat_map(str::split_whitespace) {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!(
                (LEFT..=WIDTH).contains(&x) && (0.0..900.0).contains(&y),
                "{point}"
            );
        }
        assert!(
            plot(&Report::default()).contains("</svg>"),
            "nothing to draw is no error"
        );
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, round) in [
            (0.0, 1.0),
            (0.3, 0.4),
            (1.0, 1.0),
            (73.0, 80.0),
            (81.0, 100.0),
            (5_001.0, 8_000.0),
        ] {
            assert!((round_up(value) - round).abs() < 1e-9, "{value}");
        }
    }
}
