//! A stretch of time that an appointment takes up.

use hospital_types::Faults;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, civil::Date, tz::TimeZone};

/// The longest appointment that can be booked; back-dated records may be longer.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

/// The stable code of a duration that cannot be booked.
pub const INVALID_DURATION: &str = "invalid-duration";

/// Half-open: the end is not part of it, so that neighbours touch without conflict. At least a minute long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    start: Timestamp,
    end: Timestamp,
}

impl Slot {
    /// Reads `start` and `end` of a request. The upper bound of the duration depends on the appointment: [`Slot::is_too_long`].
    pub fn parse(start: &str, end: &str, faults: &mut Faults) -> Option<Self> {
        let start = faults.take("/start", hospital_types::parse_instant(start));
        let end = faults.take("/end", hospital_types::parse_instant(end));
        let slot = Self { start: start?, end: end? };
        if slot.duration() < SHORTEST {
            faults.push_coded(
                "/end",
                INVALID_DURATION,
                "must be at least one minute after the start",
            );
            return None;
        }
        Some(slot)
    }

    /// For times that the database kept, which were checked when they came in.
    pub const fn stored(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    pub const fn start(&self) -> Timestamp {
        self.start
    }

    pub const fn end(&self) -> Timestamp {
        self.end
    }

    pub fn duration(&self) -> SignedDuration {
        self.end.duration_since(self.start)
    }

    pub fn is_too_long(&self) -> bool {
        self.duration() > LONGEST
    }

    /// What of it lies in each of the calendar years (UTC) that it touches, the earliest first.
    pub fn by_year(self) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let Self { start, end } = rest?;
            let next = new_year_after(start).filter(|new_year| *new_year < end);
            rest = next.map(|start| Self { start, end });
            Some(Self { start, end: next.unwrap_or(end) })
        })
    }

    pub fn overlaps(&self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    pub fn starts_before(&self, now: Timestamp) -> bool {
        self.start < now
    }
}

/// The year's end (UTC), if there is an instant that far ahead.
fn new_year_after(instant: Timestamp) -> Option<Timestamp> {
    let year = TimeZone::UTC.to_datetime(instant).year().checked_add(1)?;
    let new_year = Date::new(year, 1, 1).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(new_year.timestamp())
}

/// The instants between which a local day lies, first inclusive, last exclusive. A day of 23 or 25 hours is as long as it is.
pub fn local_day(date: Date, zone: &TimeZone) -> Result<(Timestamp, Timestamp), jiff::Error> {
    let start = date.to_zoned(zone.clone())?.start_of_day()?;
    let next = start.checked_add(1.day())?.start_of_day()?;
    Ok((start.timestamp(), next.timestamp()))
}

/// Whether two instants lie in one local day.
pub fn same_local_day(a: Timestamp, b: Timestamp, zone: &TimeZone) -> bool {
    let date = |instant: Timestamp| Zoned::new(instant, zone.clone()).date();
    date(a) == date(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(start: &str, end: &str) -> Result<Slot, Vec<hospital_types::Fault>> {
        let mut faults = Faults::new();
        let slot = Slot::parse(start, end, &mut faults);
        faults.finish(slot).map_err(Faults::into_vec)
    }

    #[test]
    fn a_slot_lasts_at_least_a_minute() {
        assert!(parse("2030-05-17T09:00:00Z", "2030-05-17T09:01:00Z").is_ok());
        for end in ["2030-05-17T09:00:59Z", "2030-05-17T09:00:00Z", "2030-05-17T08:00:00Z"] {
            let faults = parse("2030-05-17T09:00:00Z", end).unwrap_err();
            assert_eq!(faults[0].code.as_deref(), Some("invalid-duration"), "{end}");
            assert_eq!(faults[0].pointer, "/end");
        }
    }

    #[test]
    fn both_ends_at_fault_are_told_at_once() {
        let faults = parse("tomorrow", "2030-02-30T09:00:00Z").unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/start", "/end"]);
    }

    #[test]
    fn twenty_four_hours_are_not_too_long() {
        let slot = |end| parse("2030-05-17T09:00:00Z", end).unwrap();
        assert!(!slot("2030-05-18T09:00:00Z").is_too_long());
        assert!(slot("2030-05-18T09:00:01Z").is_too_long());
    }

    #[test]
    fn a_slot_is_cut_where_a_year_ends() {
        let slot =
            |start: &str, end: &str| Slot::stored(start.parse().unwrap(), end.parse().unwrap());
        let within = slot("2030-12-31T23:00:00Z", "2031-01-01T00:00:00Z");
        assert_eq!(within.by_year().collect::<Vec<_>>(), [within]);
        let across = slot("2029-12-31T23:59:59.999999Z", "2032-01-01T00:00:00.000001Z");
        assert_eq!(
            across.by_year().collect::<Vec<_>>(),
            [
                slot("2029-12-31T23:59:59.999999Z", "2030-01-01T00:00:00Z"),
                slot("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
                slot("2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z"),
                slot("2032-01-01T00:00:00Z", "2032-01-01T00:00:00.000001Z"),
            ]
        );
    }

    #[test]
    fn a_local_day_is_as_long_as_the_clocks_make_it() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let hours = |year, month, day| {
            let (from, to) = local_day(jiff::civil::date(year, month, day), &zone).unwrap();
            to.duration_since(from).as_hours()
        };
        assert_eq!(hours(2030, 5, 17), 24);
        assert_eq!(hours(2030, 3, 31), 23);
        assert_eq!(hours(2030, 10, 27), 25);
    }

    #[test]
    fn the_local_day_is_the_facilitys() {
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        let instant = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(same_local_day(
            instant("2030-05-17T15:00:00Z"),
            instant("2030-05-18T14:59:59Z"),
            &zone
        ));
        assert!(!same_local_day(
            instant("2030-05-17T14:59:59Z"),
            instant("2030-05-17T15:00:00Z"),
            &zone
        ));
    }
}
