//! The parts of the score, one function each.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::Signal;

use super::{
    Peak, Scoring,
    row::{Row, Target},
};
use crate::{
    kafka::Kafka,
    load::Shape,
    notified,
    pgbench::{self, Baseline},
    plot::{self, Curve},
    processor::{Memory, between},
    ready,
    report::{self, Figures, grouped},
    runs::note,
    scenario::{self, Effort, Scenario},
    series::{self, DRIFT_MAX, Series},
    slow,
    stage::{BASELINE, Open, Stage},
    workload::Service,
};

/// As many as a fleet of clients keeps open; a service takes 1,024.
const OVERLOAD_CONNECTIONS: usize = 700;
const SLOW_CLIENTS: usize = 1000;
/// What memory may grow by over the second half of the requests.
const GROWTH_MAX_MB: f64 = 3.0;
const MB: f64 = 1_000_000.0;

impl Scoring<'_> {
    /// The peak of bookings, against the three baselines.
    pub(super) async fn book(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let series = self.series(stage, &open, Scenario::Book, "book").await?;
        for (baseline, target) in
            [(pgbench::SAME_ROWS, 0.8), (pgbench::LEAN, 0.4), (pgbench::FIVE_STATEMENTS, 0.8)]
        {
            self.ratio(&format!("bookings/s ÷ {}", baseline.name), target, &series, baseline);
        }
        let p99s = series.ours.iter().map(|run| run.latency_us.p99);
        self.peak = Some(Peak {
            rate: series.rate(),
            p99_us: p99s.max().unwrap_or(0),
            baseline: series.baseline_rate(pgbench::SAME_ROWS),
        });
        self.whole_cost(stage, &open).await?;
        self.alone(stage, &open, &series).await?;
        self.conclude(open, before).await
    }

    /// The bookings themselves, against a baseline that has nothing done behind it either: what follows from them waits until they are over.
    async fn alone(&mut self, stage: &Stage, open: &Open, series: &Series) -> anyhow::Result<()> {
        note("bookings, with billing and notification standing still");
        let behind = [Service::Billing, Service::Notification];
        open.platform.signal(&behind, Signal::STOP)?;
        let ran =
            scenario::run(Scenario::Book, open, self.effort, Shape::Closed, &stage.meter(open))
                .await;
        open.platform.signal(&behind, Signal::CONT)?;
        let figures = ran?.renamed("book, with billing and notification standing still");
        report::print(&figures);
        open.settle().await?;
        let theirs = series.baseline_rate(pgbench::SAME_ROWS);
        let from = format!("{} of {}", grouped(figures.rate), grouped(theirs));
        self.rows.push(Row::new(
            "  with billing and notification standing still",
            Target::None,
            figures.rate / theirs,
            "",
            from,
        ));
        self.runs.push(figures);
        Ok(())
    }

    /// What a booking costs our processes until its bill is made and its patient told.
    async fn whole_cost(&mut self, stage: &Stage, open: &Open) -> anyhow::Result<()> {
        note("bookings with all that follows from them");
        let meter = stage.meter(open);
        let before = meter.read();
        let effort = Effort { warmup: Duration::ZERO, ..self.effort };
        let figures = scenario::run(Scenario::Book, open, effort, Shape::Closed, &meter).await?;
        open.settle().await?;
        let used = between(&before, &meter.read());
        let each = |name: &str| used[name].as_secs_f64() * 1e6 / figures.done_in_all.max(1) as f64;
        let services = ["patient", "appointment", "billing", "notification", "supervisor"];
        let parts: Vec<String> =
            services.iter().map(|name| format!("{name} {:.0}", each(name))).collect();
        let from = format!(
            "{}; beside them PostgreSQL {:.0}, generator {:.0}",
            parts.join(", "),
            each("PostgreSQL"),
            each("generator")
        );
        let all = services.iter().map(|name| each(name)).sum();
        self.rows.push(Row::new(
            "processor of our processes per booking, billed and told",
            Target::AtMost(60.0),
            all,
            "µs",
            from,
        ));
        let asked = each("patient") + each("appointment");
        self.rows.push(Row::new(
            "  of it in the services that are asked",
            Target::None,
            asked,
            "µs",
            String::new(),
        ));
        Ok(())
    }

    fn ratio(&mut self, what: &str, target: f64, series: &Series, baseline: Baseline) {
        let (ours, theirs) = (series.rate(), series.baseline_rate(baseline));
        let from = format!("{} of {}", grouped(ours), grouped(theirs));
        let mut row = Row::new(what, Target::AtLeast(target), ours / theirs, "", from);
        void_if_drifted(&mut row, series.drift(baseline));
        self.rows.push(row);
    }

    /// The tail of the latency at half of the peak, ours and PostgreSQL's.
    pub(super) async fn half(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let peak = self.peak.context("the peak was measured")?;
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let meter = stage.meter(&open);
        let url = stage.cluster.owner_url(BASELINE);
        let plan = pgbench::Plan {
            connections: self.effort.connections,
            length: self.effort.length,
            rate: Some(peak.baseline / 2.0),
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in ["theirs", "ours", "ours", "theirs"] {
            let figures = if turn == "ours" {
                let shape = Shape::Open { rate: peak.rate / 2.0 };
                let figures =
                    scenario::run(Scenario::Book, &open, self.effort, shape, &meter).await?;
                open.settle().await?;
                figures
            } else {
                stage.ready_baseline(pgbench::SAME_ROWS, plan.connections, &meter).await?;
                let measured = pgbench::run(pgbench::SAME_ROWS, &url, plan, &meter).await?;
                Figures::of_baseline(
                    pgbench::SAME_ROWS.name,
                    plan.connections,
                    plan.length,
                    measured,
                )
            };
            report::print(&figures);
            if turn == "ours" { ours.push(figures) } else { theirs.push(figures) }
        }
        self.draw("half-of-peak", &ours, theirs.iter())?;
        let p99 = |runs: &[Figures]| {
            runs.iter().map(|run| run.latency_us.p99).sum::<u64>() as f64
                / runs.len() as f64
                / 1000.0
        };
        let (mine, its) = (p99(&ours), p99(&theirs));
        let from = format!(
            "{mine:.2} ms of {its:.2} ms, at {} and {} a second",
            grouped(peak.rate / 2.0),
            grouped(peak.baseline / 2.0)
        );
        let mut row = Row::new(
            "booking p99 at half of peak ÷ pgbench -R at its half",
            Target::AtMost(6.0),
            mine / its,
            "",
            from,
        );
        let kept =
            ours.iter().map(|run| run.rate).sum::<f64>() / ours.len() as f64 / (peak.rate / 2.0);
        if kept < 0.95 {
            row.void(&format!("only {:.0} % of the rate was kept up", kept * 100.0));
        }
        self.rows.push(row);
        self.runs.extend(ours.into_iter().map(|figures| figures.renamed("book at half of peak")));
        self.runs.extend(theirs);
        self.conclude(open, before).await
    }

    pub(super) async fn notified(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let rate = self.peak.context("the peak was measured")?.rate * 0.3;
        let (open, before) = (stage.open(None).await?, self.rows.len());
        self.notified_at(stage, &open, rate, "").await?;
        self.conclude(open, before).await
    }

    async fn notified_at(
        &mut self,
        stage: &Stage,
        open: &Open,
        rate: f64,
        on: &str,
    ) -> anyhow::Result<()> {
        note(&format!("booked to notified at {} a second", grouped(rate)));
        let latency = notified::run(open, self.effort, rate, &stage.meter(open)).await?;
        let name = format!("notified{}", on.replace(' ', "-").replace(',', ""));
        let curve =
            Curve { name: format!("at {}/s", grouped(rate)), of: "notified", latency: &latency };
        plot::latency(&self.out(&name, "latency"), &format!("booked to notified{on}"), &[curve])?;
        let flush = flush(stage)?;
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        let from = format!(
            "{} bookings at {} a second, p99.9 {:.1} ms",
            latency.len(),
            grouped(rate),
            at(0.999)
        );
        self.rows.push(Row::new(
            format!("booked to notified at 30 % of peak{on}, p50"),
            Target::AtMost(15.0),
            at(0.5),
            "ms",
            from,
        ));
        let most = 50.0 + 3.0 * flush.as_secs_f64() * 1000.0;
        let from = format!("a flush takes {:.2} ms", flush.as_secs_f64() * 1000.0);
        self.rows.push(Row::new(
            format!("booked to notified at 30 % of peak{on}, p99"),
            Target::AtMost(most),
            at(0.99),
            "ms",
            from,
        ));
        Ok(())
    }

    pub(super) async fn pay(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.plain(stage, Scenario::Pay, "pay", "payments/s ÷ payment-function", 0.45).await
    }

    pub(super) async fn pay_hot(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.plain(
            stage,
            Scenario::PayHot,
            "pay-hot",
            "payments/s on one bill ÷ hot-bill-seven-statements",
            6.0,
        )
        .await
    }

    pub(super) async fn flow(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.plain(stage, Scenario::Flow, "flow", "whole flows/s ÷ same-rows-booking", 0.25).await
    }

    /// A scenario with one baseline and one target.
    async fn plain(
        &mut self,
        stage: &Stage,
        scenario: Scenario,
        name: &str,
        what: &str,
        target: f64,
    ) -> anyhow::Result<()> {
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let series = self.series(stage, &open, scenario, name).await?;
        self.ratio(what, target, &series, scenario.baselines()[0]);
        self.conclude(open, before).await
    }

    /// Three times as many bookings as the platform can take.
    pub(super) async fn overload(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let peak = self.peak.context("the peak was measured")?;
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let effort = Effort { connections: OVERLOAD_CONNECTIONS, ..self.effort };
        let shape = Shape::Open { rate: peak.rate * 3.0 };
        note(&format!("overload, {} a second", grouped(peak.rate * 3.0)));
        let figures = scenario::run(Scenario::Book, &open, effort, shape, &stage.meter(&open))
            .await?
            .renamed("overload");
        report::print(&figures);
        self.draw("overload", std::slice::from_ref(&figures), std::iter::empty())?;
        let from = format!(
            "{} of {}; {} a second sent away",
            grouped(figures.rate),
            grouped(peak.rate),
            grouped(figures.shed_rate)
        );
        self.rows.push(Row::new(
            "goodput at three times peak ÷ peak",
            Target::AtLeast(0.85),
            figures.rate / peak.rate,
            "",
            from,
        ));
        let (p99, normal) = (figures.latency_us.p99 as f64 / 1000.0, peak.p99_us as f64 / 1000.0);
        let from = format!("{p99:.1} ms of {normal:.1} ms");
        self.rows.push(Row::new(
            "p99 of what is accepted then ÷ p99 at peak",
            Target::AtMost(5.0),
            p99 / normal,
            "",
            from,
        ));
        let broken = figures.broken as f64;
        let from = "neither done, refused nor sent away with Retry-After".to_owned();
        self.rows.push(Row::new(
            "answers that are faults then",
            Target::AtMost(0.0),
            broken,
            "",
            from,
        ));
        self.runs.push(figures);
        self.conclude(open, before).await
    }

    /// Bookings with slow clients beside them, between bookings without.
    pub(super) async fn slow(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let (meter, tokens) = (stage.meter(&open), slow::tokens(&stage.program)?);
        let address = open.addresses[Service::Appointment.place()];
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for slow_clients in [0, SLOW_CLIENTS, SLOW_CLIENTS, 0] {
            note(&format!("bookings, with {slow_clients} slow clients beside"));
            let asked = scenario::run(Scenario::Book, &open, self.effort, Shape::Closed, &meter);
            let figures = if slow_clients == 0 {
                asked.await?.renamed("book, nobody beside")
            } else {
                tokio::select! {
                    figures = asked => figures?.renamed("book, slow clients beside"),
                    never = slow::crowd(address, slow_clients, &tokens) => match never {},
                }
            };
            report::print(&figures);
            let runs = if slow_clients == 0 { &mut alone } else { &mut beside };
            runs.push(figures);
            open.settle().await?;
        }
        let (with, without) = (series::mean(&beside), series::mean(&alone));
        let mut row = Row::new(
            format!("bookings/s with {SLOW_CLIENTS} slow clients beside ÷ without"),
            Target::AtLeast(0.95),
            with / without,
            "",
            format!("{} of {}", grouped(with), grouped(without)),
        );
        void_if_drifted(&mut row, series::drift(&alone));
        self.rows.push(row);
        let (broken, shed): (u64, f64) = (
            beside.iter().map(|run| run.broken).sum(),
            beside.iter().map(|run| run.shed_rate).sum(),
        );
        let from = format!("sent away with Retry-After: {} a second", grouped(shed / 2.0));
        self.rows.push(Row::new(
            "  answers to bookings that are faults then",
            Target::AtMost(0.0),
            broken as f64,
            "",
            from,
        ));
        self.runs.extend(alone.into_iter().chain(beside));
        self.conclude(open, before).await
    }

    pub(super) async fn others(&mut self, stage: &Stage) -> anyhow::Result<()> {
        for scenario in [Scenario::SameKey, Scenario::Read] {
            let (open, before) = (stage.open(None).await?, self.rows.len());
            let series = self.series(stage, &open, scenario, scenario.name()).await?;
            let what = format!("{}: answers/s", scenario.name());
            self.rows.push(Row::new(what, Target::None, series.rate(), "", String::new()));
            self.conclude(open, before).await?;
        }
        Ok(())
    }

    /// Memory, idle and after many requests.
    pub(super) async fn memory(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let all = self.args.requests.unwrap_or(if self.args.quick { 20_000 } else { 1_000_000 });
        let told = |memory: Memory| {
            format!("{:.1} MB when shared pages are divided", memory.proportional as f64 / MB)
        };
        let idle = ready::memory(&open.platform.services);
        self.rows.push(Row::new(
            "memory of the four services, idle",
            Target::AtMost(60.0),
            idle.resident as f64 / MB,
            "MB",
            told(idle),
        ));
        let meter = stage.meter(&open);
        let (mut done, mut looks) = (0, Vec::new());
        note(&format!("{all} requests of every kind"));
        while done < all {
            let figures =
                scenario::run(Scenario::Mixed, &open, self.effort, Shape::Closed, &meter).await?;
            done += figures.done_in_all;
            open.settle().await?;
            looks.push((done, ready::memory(&open.platform.services).resident as f64 / MB));
            self.runs.push(figures);
        }
        let last = ready::memory(&open.platform.services);
        let what = format!("memory after {} requests", grouped(done as f64));
        self.rows.push(Row::new(
            what,
            Target::AtMost(120.0),
            last.resident as f64 / MB,
            "MB",
            told(last),
        ));
        let middle = looks
            .iter()
            .find(|(requests, _)| *requests >= done / 2)
            .map_or(0.0, |(_, memory)| *memory);
        let from = "slope zero, as far as it can be seen".to_owned();
        let growth = last.resident as f64 / MB - middle;
        self.rows.push(Row::new(
            "  of it come in the second half",
            Target::AtMost(GROWTH_MAX_MB),
            growth,
            "MB",
            from,
        ));
        self.conclude(open, before).await
    }

    pub(super) async fn start(&mut self, stage: &Stage) -> anyhow::Result<()> {
        note("start to ready, five times");
        stage.copy_seed().await?;
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(ready::start(stage).await?.as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let from = format!("the middle of five, from {:.0} to {:.0}", times[0], times[4]);
        self.rows.push(Row::new(
            "start to ready, all four services",
            Target::AtMost(300.0),
            times[2],
            "ms",
            from,
        ));
        Ok(())
    }

    /// Bookings in the coming weeks, with ten years of history and without any.
    pub(super) async fn history(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let appointments =
            self.args.history.unwrap_or(if self.args.quick { 50_000 } else { 10_000_000 });
        stage.fill_history(appointments).await?;
        // Without, with, without: filling takes long, and the machine that is left is another one.
        let mut rates = [0.0; 3];
        for (rate, with) in rates.iter_mut().zip([false, true, false]) {
            let open = if with { stage.open_history().await? } else { stage.open(None).await? };
            let name = if with { "book-soon-history" } else { "book-soon-empty" };
            *rate = self.series(stage, &open, Scenario::BookSoon, name).await?.rate();
            open.platform.stop()?;
        }
        let [before, with, after] = rates;
        let without = f64::midpoint(before, after);
        let what =
            format!("bookings/s with {} past appointments ÷ without", grouped(appointments as f64));
        let from = format!("{} of {} and {}", grouped(with), grouped(before), grouped(after));
        let mut row = Row::new(what, Target::AtLeast(0.9), with / without, "", from);
        void_if_drifted(&mut row, (before - after).abs() / before.max(after));
        self.rows.push(row);
        Ok(())
    }

    pub(super) async fn disk(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let (open, before) = (stage.open(None).await?, self.rows.len());
        let series = self
            .series_against(stage, &open, Scenario::Book, &[pgbench::SAME_ROWS], "book-on-disk")
            .await?;
        self.ratio("bookings/s on a disk ÷ same-rows-booking", 1.0, &series, pgbench::SAME_ROWS);
        let flush = flush(stage)?.as_secs_f64() * 1000.0;
        self.rows.push(Row::new(
            "  a flush to that disk takes",
            Target::None,
            flush,
            "ms",
            "the middle of fifty".to_owned(),
        ));
        self.conclude(open, before).await
    }

    pub(super) async fn kafka(&mut self, stage: &Stage, kafka: &Kafka) -> anyhow::Result<()> {
        let (open, before) = (stage.open(Some(kafka)).await?, self.rows.len());
        let series = self
            .series_against(stage, &open, Scenario::Book, &[pgbench::SAME_ROWS], "book-on-kafka")
            .await?;
        self.ratio("bookings/s on Kafka ÷ same-rows-booking", 0.8, &series, pgbench::SAME_ROWS);
        let rate = series.rate() * 0.3;
        self.notified_at(stage, &open, rate, ", on Kafka").await?;
        let series = self.series(stage, &open, Scenario::Flow, "flow-on-kafka").await?;
        self.ratio("whole flows/s on Kafka ÷ same-rows-booking", 0.25, &series, pgbench::SAME_ROWS);
        self.conclude(open, before).await
    }
}

/// How long a small write takes to be safe where the databases are: the middle of fifty.
fn flush(stage: &Stage) -> anyhow::Result<Duration> {
    let mut file = File::create(stage.program.dir.join("flush"))?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        file.write_all(&[1; 8192])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Takes away the verdict of a row whose baseline's runs differ too much.
fn void_if_drifted(row: &mut Row, drift: f64) {
    if drift > DRIFT_MAX {
        row.void(&format!("the baseline drifted by {:.0} %", drift * 100.0));
    }
}
