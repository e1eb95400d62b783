//! Processor time and memory of processes, from `/proc`.

use std::{collections::BTreeMap, fs, time::Duration};

/// Processes by the name that they are reported under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    /// Name, process id, and whether its children count too, the ended ones as well.
    watched: Vec<(String, u32, bool)>,
}

/// Processor time used so far, by name.
pub(crate) type Used = BTreeMap<String, Duration>;

impl Meter {
    pub(crate) fn watch(&mut self, name: &str, pid: u32) {
        self.watched.push((name.to_owned(), pid, false));
    }

    pub(crate) fn watch_tree(&mut self, name: &str, pid: u32) {
        self.watched.push((name.to_owned(), pid, true));
    }

    pub(crate) fn read(&self) -> Used {
        let parents =
            if self.watched.iter().any(|(_, _, tree)| *tree) { parents() } else { Vec::new() };
        self.watched
            .iter()
            .map(|(name, pid, tree)| {
                let mut ticks = ticks(*pid, *tree);
                if *tree {
                    let children = parents.iter().filter(|(_, parent)| parent == pid);
                    ticks += children.map(|(child, _)| self::ticks(*child, true)).sum::<u64>();
                }
                (
                    name.clone(),
                    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()),
                )
            })
            .collect()
    }
}

/// What was used between two readings.
pub(crate) fn between(before: &Used, after: &Used) -> Used {
    let diff = |(name, used): (&String, &Duration)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name.clone(), used.saturating_sub(before))
    };
    after.iter().map(diff).collect()
}

/// User and system time of a process; with that of the children that it has waited for, if asked.
fn ticks(pid: u32, with_ended_children: bool) -> u64 {
    let fields = stat(pid);
    let field =
        |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let own = field(11) + field(12);
    if with_ended_children { own + field(13) + field(14) } else { own }
}

/// The fields of `/proc/PID/stat` behind the name, so that the first is the state. None when the process is gone.
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid).get(1)?.parse().ok()?))).collect()
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Memory {
    /// All that is resident, pages of the program's file included.
    pub(crate) resident: u64,
    /// The same, with shared pages divided among those who share them.
    pub(crate) proportional: u64,
}

pub(crate) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
            * 1024
    };
    Memory { resident: field("Rss:"), proportional: field("Pss:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_time_and_memory() {
        let mut meter = Meter::default();
        meter.watch("self", std::process::id());
        let before = meter.read();
        let started = std::time::Instant::now();
        let mut sum = 0_u64;
        while started.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum + 1);
        }
        let used = between(&before, &meter.read())["self"];
        assert!(used >= Duration::from_millis(50), "{used:?}");
        assert!(memory(std::process::id()).resident > 500_000);
    }
}
