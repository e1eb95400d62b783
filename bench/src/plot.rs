//! Plots as SVG: latency by percentile, and the rate over time.

use std::path::Path;

use anyhow::anyhow;
use hdrhistogram::Histogram;
use plotters::{coord::Shift, prelude::*};

use crate::{load::SLICE, report::Figures};

const SIZE: (u32, u32) = (880, 500);
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x0b, 0x6e, 0x99),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0x75, 0x70, 0xb3),
    RGBColor(0xe7, 0x29, 0x8a),
    RGBColor(0x66, 0x66, 0x66),
];
const INK: RGBColor = RGBColor(0x22, 0x2b, 0x33);
const GRID: RGBColor = RGBColor(0xdd, 0xe2, 0xe6);

/// A line of the plot of latencies.
pub(crate) struct Curve<'a> {
    pub(crate) name: String,
    /// What it is a run of: runs of one thing have one colour.
    pub(crate) of: &'a str,
    pub(crate) latency: &'a Histogram<u64>,
}

fn color_of(of: &str, curves: &[Curve<'_>]) -> RGBColor {
    let mut names: Vec<&str> = curves.iter().map(|curve| curve.of).collect();
    names.dedup();
    let place = names.iter().position(|name| *name == of).unwrap_or(0);
    PALETTE[place % PALETTE.len()]
}

type Drawn = anyhow::Result<()>;

fn failed<E: std::fmt::Display>(e: E) -> anyhow::Error {
    anyhow!("drawing: {e}")
}

/// Latency by percentile, both axes logarithmic: each step to the right is one request in ten fewer.
pub(crate) fn latency(path: &Path, title: &str, curves: &[Curve<'_>]) -> Drawn {
    let longest = curves.iter().map(|curve| nines_of(curve.latency)).fold(2.0, f64::max);
    let values = || {
        curves
            .iter()
            .flat_map(|curve| [curve.latency.min(), curve.latency.max()])
            .filter(|us| *us > 0)
    };
    let low = values().min().unwrap_or(1) as f64 / 1000.0;
    let high = values().max().unwrap_or(1000) as f64 / 1000.0;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20).into_font().color(&INK))
        .margin(16)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest, (low.max(0.01)..high * 1.2).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency, ms")
        // So many that each is a whole number of nines.
        .x_labels(labels(longest))
        .x_label_formatter(&|nines| percentile_name(*nines))
        .y_label_formatter(&|ms| if *ms < 1.0 { format!("{ms:.2}") } else { format!("{ms:.0}") })
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for curve in curves {
        let (points, color) = (points(curve.latency), color_of(curve.of, curves));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(3)))
            .map_err(failed)?
            .label(&curve.name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 22, y)], color.stroke_width(3))
            });
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    finish(&root)
}

/// The rate over time, in steps of a quarter of a second.
pub(crate) fn rate(path: &Path, title: &str, runs: &[&Figures]) -> Drawn {
    let step = SLICE.as_secs_f64();
    let longest = runs.iter().map(|run| run.slices.len()).max().unwrap_or(1) as f64 * step;
    let highest = runs.iter().flat_map(|run| &run.slices).max().copied().unwrap_or(1) as f64 / step;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20).into_font().color(&INK))
        .margin(16)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest.max(1.0), 0.0..highest * 1.15 + 1.0)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("a second")
        .x_label_formatter(&|s| format!("{s:.1}"))
        .y_label_formatter(&|rate| crate::report::grouped(*rate))
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for (run, color) in runs.iter().zip(PALETTE.iter().cycle()) {
        let at = |(slice, done): (usize, &u64)| ((slice as f64 + 0.5) * step, *done as f64 / step);
        chart
            .draw_series(LineSeries::new(
                run.slices.iter().enumerate().map(at),
                color.stroke_width(2),
            ))
            .map_err(failed)?
            .label(&run.name)
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], color.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    finish(&root)
}

fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    at: SeriesLabelPosition,
) -> Drawn {
    chart
        .configure_series_labels()
        .position(at)
        .margin(14)
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .label_font(("sans-serif", 14).into_font().color(&INK))
        .draw()
        .map_err(failed)
}

fn finish(root: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    root.present().map_err(failed)
}

/// How many nines the highest percentile that so many values tell of has.
fn nines_of(latency: &Histogram<u64>) -> f64 {
    (latency.len().max(10) as f64).log10()
}

/// The curve: nines of the percentile (0.9 is one, 0.99 two), milliseconds.
fn points(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    const STEPS: u32 = 200;
    let last = nines_of(latency);
    (0..=STEPS)
        .map(|step| {
            let nines = last * f64::from(step) / f64::from(STEPS);
            let quantile = 1.0 - 10_f64.powf(-nines);
            (nines, latency.value_at_quantile(quantile).max(10) as f64 / 1000.0)
        })
        .collect()
}

fn labels(longest: f64) -> usize {
    (1_u16..)
        .zip(0..20)
        .find(|(nines, _)| f64::from(*nines) > longest)
        .map_or(5, |(nines, _)| nines.into())
}

fn percentile_name(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    let decimals = (nines - 2.0).ceil().clamp(0.0, 5.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 5")]
    let decimals = decimals as usize;
    format!("{percent:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_written_as_people_say_them() {
        assert_eq!((labels(3.4), labels(4.0)), (4, 5));
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0].map(percentile_name),
            ["0", "90", "99", "99.9", "99.99"]
        );
    }

    #[test]
    fn a_plot_has_a_curve_for_each_run() {
        let mut fast = crate::load::histogram();
        let mut slow = crate::load::histogram();
        for us in 1..5000 {
            fast.record(us).unwrap();
            slow.record(us * 7).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latency.svg");
        let curve =
            |name: &'static str, latency| Curve { name: name.to_owned(), of: name, latency };
        latency(&path, "Two", &[curve("fast", &fast), curve("slow", &slow)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.matches("<polyline").count() >= 4, "two curves and two legends");
        assert!(svg.contains("fast") && svg.contains("slow"));
    }
}
