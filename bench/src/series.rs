//! A scenario between its baselines: A B B A, in one minute, with the same connections.

use crate::{
    load::Shape,
    pgbench::{self, Baseline},
    report::Figures,
    runs::note,
    scenario::{self, Effort, Scenario},
    stage::{BASELINE, Open, Stage},
};

pub(crate) struct Series {
    pub(crate) ours: Vec<Figures>,
    /// Each baseline's two runs.
    pub(crate) baselines: Vec<(Baseline, Vec<Figures>)>,
}

/// A baseline that drifts by more than this between its runs says that something else was at work: no verdict.
pub(crate) const DRIFT_MAX: f64 = 0.2;

impl Series {
    pub(crate) fn rate(&self) -> f64 {
        mean(&self.ours)
    }

    pub(crate) fn baseline_rate(&self, baseline: Baseline) -> f64 {
        self.runs_of(baseline).map_or(0.0, |runs| mean(runs))
    }

    pub(crate) fn drift(&self, baseline: Baseline) -> f64 {
        self.runs_of(baseline).map_or(0.0, |runs| drift(runs))
    }

    fn runs_of(&self, baseline: Baseline) -> Option<&Vec<Figures>> {
        self.baselines.iter().find(|(found, _)| *found == baseline).map(|(_, runs)| runs)
    }

    pub(crate) fn all(self) -> impl Iterator<Item = Figures> {
        self.ours.into_iter().chain(self.baselines.into_iter().flat_map(|(_, runs)| runs))
    }
}

/// How far the rates of runs of the same are apart, as a share of the highest.
pub(crate) fn drift(runs: &[Figures]) -> f64 {
    let rates = || runs.iter().map(|run| run.rate);
    let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
    if high > 0.0 { (high - low) / high } else { 0.0 }
}

pub(crate) fn mean(runs: &[Figures]) -> f64 {
    runs.iter().map(|run| run.rate).sum::<f64>() / runs.len().max(1) as f64
}

/// Runs the scenario twice between two runs of each baseline; once where there is none.
pub(crate) async fn abba(
    stage: &Stage,
    open: &Open,
    scenario: Scenario,
    baselines: &[Baseline],
    effort: Effort,
    shape: Shape,
    show: &dyn Fn(&Figures),
) -> anyhow::Result<Series> {
    let meter = stage.meter(open);
    let url = stage.cluster.owner_url(BASELINE);
    let plan = pgbench::Plan { connections: effort.connections, length: effort.length, rate: None };
    let baseline = async |baseline: Baseline| -> anyhow::Result<Figures> {
        note(&format!("pgbench {}", baseline.name));
        stage.ready_baseline(baseline, effort.connections, &meter).await?;
        let measured = pgbench::run(baseline, &url, plan, &meter).await?;
        let figures =
            Figures::of_baseline(baseline.name, effort.connections, effort.length, measured);
        show(&figures);
        Ok(figures)
    };
    let mut series = Series { ours: Vec::new(), baselines: Vec::new() };
    for which in baselines {
        series.baselines.push((*which, vec![baseline(*which).await?]));
    }
    for round in 0..if baselines.is_empty() { 1 } else { 2 } {
        note(&format!("{}, run {}", scenario.name(), round + 1));
        let figures = scenario::run(scenario, open, effort, shape, &meter).await?;
        show(&figures);
        series.ours.push(figures);
        open.settle().await?;
    }
    for (which, runs) in series.baselines.iter_mut().rev() {
        runs.push(baseline(*which).await?);
    }
    Ok(series)
}
