//! The scenarios by name.

use std::{rc::Rc, time::Duration};

use crate::{
    flow,
    load::{self, Plan, Shape},
    pgbench::{self, Baseline},
    processor::Meter,
    report::Figures,
    stage::Open,
    workload::{Book, COMING_WEEKS, Mixed, Pay, Pen, Read, SLOTS, SameKey, Workload, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Bookings at random free times, each with its patient check by REST
    Book,
    /// The same within the coming eight weeks, where they lie close together
    BookSoon,
    /// Payments on many bills
    Pay,
    /// Payments on one bill
    PayHot,
    /// The same booking many times at once under one key
    SameKey,
    /// Patients by id
    Read,
    /// Whole flows: booked, billed by the event, paid, and the patient told of all three
    Flow,
    /// A day at the desk: reads, bookings, bills, payments, messages
    Mixed,
}

impl Scenario {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::BookSoon => "book-soon",
            Self::Pay => "pay",
            Self::PayHot => "pay-hot",
            Self::SameKey => "same-key",
            Self::Read => "read",
            Self::Flow => "flow",
            Self::Mixed => "mixed",
        }
    }

    /// What PostgreSQL itself does of the same.
    pub(crate) const fn baselines(self) -> &'static [Baseline] {
        match self {
            Self::Book => &[pgbench::SAME_ROWS, pgbench::LEAN, pgbench::FIVE_STATEMENTS],
            Self::Pay => &[pgbench::PAYMENT],
            Self::PayHot => &[pgbench::HOT_BILL],
            Self::Flow => &[pgbench::SAME_ROWS],
            Self::BookSoon | Self::SameKey | Self::Read | Self::Mixed => &[],
        }
    }

    /// Its requests; a flow has its own way of asking.
    fn workload(self, world: &Rc<World>) -> Option<Box<dyn Workload>> {
        let pen = || Pen::new(world);
        let pay = |bills| Pay { pen: pen(), bills };
        Some(match self {
            Self::Flow => return None,
            Self::Book => Box::new(Book { pen: pen(), within: SLOTS }),
            Self::BookSoon => Box::new(Book { pen: pen(), within: COMING_WEEKS }),
            Self::Pay => Box::new(pay(usize::MAX)),
            Self::PayHot => Box::new(pay(1)),
            Self::SameKey => {
                Box::new(SameKey { pen: pen(), times: 32, sent: 0, request: Vec::new() })
            }
            Self::Read => Box::new(Read(pen())),
            Self::Mixed => Box::new(Mixed::new(world)),
        })
    }
}

/// How long and with how many connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) connections: usize,
    pub(crate) warmup: Duration,
    pub(crate) length: Duration,
}

/// One run of a scenario.
pub(crate) async fn run(
    scenario: Scenario,
    open: &Open,
    effort: Effort,
    shape: Shape,
    meter: &Meter,
) -> anyhow::Result<Figures> {
    let world = Rc::new(open.world.for_another_run());
    let run = match scenario.workload(&world) {
        Some(workload) => {
            let (connections, warmup, length) = (effort.connections, effort.warmup, effort.length);
            load::run(open.addresses, workload, Plan { shape, connections, warmup, length }, meter)
                .await?
        }
        None => flow::run(open, effort, meter).await?,
    };
    Ok(Figures::of_run(scenario.name(), effort.connections, run))
}
