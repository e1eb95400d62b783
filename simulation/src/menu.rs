//! The menu of faults, and which of them a seed orders.

use crate::seed::Rng;

/// The services, in the order of their ports.
pub const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];

/// Something that is done to the platform while people work with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of a service, by its place in [`SERVICES`].
    Kill(usize),
    /// `SIGSTOP`, and after a while `SIGCONT`.
    Freeze(usize),
    PostgresRestart,
    BackendsTerminated,
    /// Whoever commits is ended while at it, again and again: some have committed by then, and none is told.
    CommitsTerminated,
    /// Kafka's process is killed and started again; on PostgreSQL every session of the bus is ended.
    BrokerKilled,
    /// A consumer group's offsets are deleted: everything comes again.
    OffsetsDeleted,
    /// Records that are there are published once more, out of order.
    RecordsRepeated,
    LineCut,
    LineSlow,
    LineHalfOpen,
    LineNarrow,
    /// Clients leave 0 to 20 ms into a request.
    ClientsLeave,
    ClockHourOff,
    ClockStepsBack,
    DiskFull,
    FewDescriptors,
    NoDatabaseConnection,
    SlowConsumer,
    GatewaySilent,
    MailDropsTheLine,
    /// A second process of a service that consumes comes, shares the partitions, and goes: it stops, or it is killed.
    SecondInstance,
}

pub const MENU: [Fault; 28] = [
    Fault::Kill(0),
    Fault::LineCut,
    Fault::PostgresRestart,
    Fault::Freeze(1),
    Fault::GatewaySilent,
    Fault::OffsetsDeleted,
    Fault::Kill(1),
    Fault::LineHalfOpen,
    Fault::BackendsTerminated,
    Fault::ClockHourOff,
    Fault::Freeze(2),
    Fault::BrokerKilled,
    Fault::SecondInstance,
    Fault::ClientsLeave,
    Fault::Kill(2),
    Fault::DiskFull,
    Fault::LineSlow,
    Fault::Freeze(3),
    Fault::RecordsRepeated,
    Fault::NoDatabaseConnection,
    Fault::Kill(3),
    Fault::ClockStepsBack,
    Fault::SlowConsumer,
    Fault::FewDescriptors,
    Fault::Freeze(0),
    Fault::MailDropsTheLine,
    Fault::LineNarrow,
    Fault::CommitsTerminated,
];

impl Fault {
    /// Its name in the summary.
    pub fn name(self) -> String {
        match self {
            Self::Kill(service) => format!("kill -9 {}", SERVICES[service]),
            Self::Freeze(service) => format!("freeze {}", SERVICES[service]),
            other => {
                let word = match other {
                    Self::PostgresRestart => "postgres restart",
                    Self::BackendsTerminated => "backends terminated",
                    Self::CommitsTerminated => "commits terminated",
                    Self::BrokerKilled => "broker killed",
                    Self::OffsetsDeleted => "offsets deleted",
                    Self::RecordsRepeated => "records repeated",
                    Self::LineCut => "line cut",
                    Self::LineSlow => "line slow",
                    Self::LineHalfOpen => "line half-open",
                    Self::LineNarrow => "line narrow",
                    Self::ClientsLeave => "clients leave",
                    Self::ClockHourOff => "clock an hour off",
                    Self::ClockStepsBack => "clock steps back",
                    Self::DiskFull => "disk full",
                    Self::FewDescriptors => "64 descriptors",
                    Self::NoDatabaseConnection => "no connection",
                    Self::SlowConsumer => "slow consumer",
                    Self::GatewaySilent => "gateway silent",
                    Self::SecondInstance => "second instance",
                    Self::MailDropsTheLine | Self::Kill(_) | Self::Freeze(_) => "mail drops line",
                };
                word.to_owned()
            }
        }
    }
}

/// The faults of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// One alone, and how long it takes until all is as before is measured.
    Alone(Fault),
    /// Several, each some milliseconds after the first may come.
    Together(Vec<(u64, Fault)>),
}

impl Order {
    /// What a seed orders. Seeds that follow each other go through the whole menu, alternately alone and together, so that a run of many
    /// rounds has every fault about as often.
    pub fn of(seed: u64) -> Self {
        let count = MENU.len() as u64;
        let (place, cycle) = (seed % count, seed / count);
        let at = |place: u64| MENU[usize::try_from(place % count).unwrap_or(0)];
        if (place + cycle).is_multiple_of(2) {
            return Self::Alone(at(place));
        }
        let mut rng = Rng::of(seed, 0);
        let mut all = vec![at(place), at(place + 26 + cycle * 2), at(place + 16 + cycle * 2)];
        all.dedup();
        if rng.percent(30) {
            all.push(at(rng.next()));
        }
        Self::Together(all.into_iter().map(|fault| (rng.below(1200), fault)).collect())
    }

    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Alone(fault) => vec![*fault],
            Self::Together(all) => all.iter().map(|(_, fault)| *fault).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_menu_has_no_dish_twice_and_every_name_is_its_own() {
        assert_eq!(MENU.iter().collect::<BTreeSet<_>>().len(), MENU.len());
        assert_eq!(MENU.iter().map(|f| f.name()).collect::<BTreeSet<_>>().len(), MENU.len());
    }

    #[test]
    fn two_hundred_rounds_have_every_fault_ten_times_and_measure_it_thrice() {
        for first in [0, 1, 7, 100, 12_345, 999_999_937] {
            let (mut drawn, mut alone) = (BTreeMap::new(), BTreeMap::new());
            for seed in first..first + 200 {
                let order = Order::of(seed);
                assert_eq!(order, Order::of(seed));
                if let Order::Alone(fault) = &order {
                    *alone.entry(*fault).or_insert(0) += 1;
                }
                for fault in order.faults() {
                    *drawn.entry(fault).or_insert(0) += 1;
                }
            }
            for fault in MENU {
                assert!(drawn[&fault] >= 10, "{first}: {fault:?} {}", drawn[&fault]);
                assert!(alone[&fault] >= 3, "{first}: {fault:?} alone {}", alone[&fault]);
            }
        }
    }
    /// The table under "One fault": `| seed | fault | … |`.
    #[test]
    fn the_readme_has_the_seed_of_each_fault_alone() {
        let rows = include_str!("../README.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.parse::<u64>().ok()?, cells.next()?))
        });
        let mut told = BTreeSet::new();
        for (seed, name) in rows {
            let Order::Alone(fault) = Order::of(seed) else { panic!("{seed} orders several") };
            assert_eq!(fault.name(), name, "{seed}");
            told.insert(fault);
        }
        assert_eq!(told.len(), MENU.len());
    }
}
