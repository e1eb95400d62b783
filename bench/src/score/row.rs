use console::style;
use serde::Serialize;

/// Which side of a target is good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Measured for its own sake.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    Met,
    Missed,
    Void(String),
    None,
}

/// One line of the score.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) target: Target,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    /// What the measured value is made of.
    pub(crate) from: String,
    pub(crate) verdict: Verdict,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        target: Target,
        measured: f64,
        unit: &'static str,
        from: String,
    ) -> Self {
        let verdict = match target {
            Target::AtLeast(least) if measured >= least => Verdict::Met,
            Target::AtMost(most) if measured <= most => Verdict::Met,
            Target::None => Verdict::None,
            // Not a number is not met.
            Target::AtLeast(_) | Target::AtMost(_) => Verdict::Missed,
        };
        Self { what: what.into(), target, measured, unit, from, verdict }
    }

    /// The row of a part that could not be measured.
    pub(crate) fn not_done(what: &str, why: &str) -> Self {
        let mut row = Self::new(what, Target::AtMost(0.0), f64::NAN, "", why.to_owned());
        row.void("could not be done");
        row
    }

    /// Takes the verdict back.
    pub(crate) fn void(&mut self, why: &str) {
        if self.verdict != Verdict::None {
            self.verdict = Verdict::Void(why.to_owned());
        }
    }

    pub(crate) const fn is_met(&self) -> bool {
        matches!(self.verdict, Verdict::Met | Verdict::None)
    }

    fn target_told(&self) -> String {
        match self.target {
            Target::AtLeast(least) => format!("≥ {} {}", number(least), self.unit),
            Target::AtMost(most) => format!("≤ {} {}", number(most), self.unit),
            Target::None => "–".to_owned(),
        }
    }
}

/// As many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => crate::report::grouped(value),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    println!();
    println!(
        "{}",
        style(format!("{:<width$}  {:>14}  {:>14}  {:<10}", "", "target", "measured", "")).dim()
    );
    for row in rows {
        let (mark, measured) =
            (mark(&row.verdict), format!("{} {}", number(row.measured), row.unit));
        println!(
            "{:<width$}  {:>14}  {:>14}  {}  {}",
            row.what,
            row.target_told(),
            measured.trim_end(),
            mark,
            style(&row.from).dim()
        );
    }
    let count =
        |wanted: fn(&Verdict) -> bool| rows.iter().filter(|row| wanted(&row.verdict)).count();
    println!();
    println!(
        "{} met, {} missed, {} without a verdict",
        count(|v| *v == Verdict::Met),
        count(|v| *v == Verdict::Missed),
        count(|v| matches!(v, Verdict::Void(_)))
    );
}

fn mark(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Met => style("✓ met   ").green().to_string(),
        Verdict::Missed => style("✗ missed").red().to_string(),
        Verdict::Void(why) => style(format!("? void: {why}")).yellow().to_string(),
        Verdict::None => "        ".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_good_side() {
        let verdict = |target, measured| Row::new("", target, measured, "", String::new()).verdict;
        assert_eq!(verdict(Target::AtLeast(0.8), 0.8), Verdict::Met);
        assert_eq!(verdict(Target::AtLeast(0.8), 0.79), Verdict::Missed);
        assert_eq!(verdict(Target::AtMost(60.0), 61.0), Verdict::Missed);
        assert_eq!(verdict(Target::AtMost(60.0), f64::NAN), Verdict::Missed);
        assert_eq!(verdict(Target::None, 1.0), Verdict::None);
    }

    #[test]
    fn a_void_row_is_not_met() {
        let mut row = Row::new("", Target::AtMost(1.0), 0.5, "", String::new());
        assert!(row.is_met());
        row.void("the baseline drifted");
        assert!(!row.is_met());
    }
}
