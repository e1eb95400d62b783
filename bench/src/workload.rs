//! What is asked: the requests of each scenario.

use std::{fmt::Write as _, io::Write as _, rc::Rc, time::Instant};

use jiff::{SignedDuration, Timestamp};

use crate::load::Outcome;

/// A service, by its port's place behind the base port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Patient,
    Appointment,
    Billing,
    Notification,
}

impl Service {
    pub(crate) const ALL: [Self; 4] =
        [Self::Patient, Self::Appointment, Self::Billing, Self::Notification];

    pub(crate) const fn place(self) -> usize {
        self as usize
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Appointment => "appointment",
            Self::Billing => "billing",
            Self::Notification => "notification",
        }
    }
}

/// An answer as the workload that asked sees it.
pub(crate) struct Seen<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) body: &'a [u8],
    pub(crate) due: Instant,
}

/// Writes requests, one after the other.
pub(crate) trait Workload {
    /// Appends a whole request; gives whom to send it to.
    fn next(&mut self, request: &mut Vec<u8>) -> Service;

    fn seen(&mut self, _seen: Seen<'_>) {}
}

/// What requests are made of.
#[derive(Clone)]
pub(crate) struct World {
    /// One for each of some callers: the services see people, not one machine.
    pub(crate) tokens: Vec<String>,
    pub(crate) patients: Vec<String>,
    pub(crate) practitioners: Vec<String>,
    /// Bills that take payments without end.
    pub(crate) bills: Vec<String>,
    /// No appointment begins before.
    pub(crate) start: Timestamp,
    /// Tells the keys of this run from those of another.
    pub(crate) run: String,
}

impl World {
    /// The same world; its keys are new.
    pub(crate) fn for_another_run(&self) -> Self {
        Self { run: format!("{:08x}", fastrand::u32(..)), ..self.clone() }
    }
}

/// The minutes of eight weeks.
pub(crate) const COMING_WEEKS: i64 = 8 * 7 * 24 * 60;

/// Slots of a minute, over as many years: two bookings rarely meet. The baselines take theirs from as many.
pub(crate) const SLOTS: i64 = 80_000_000;

/// Writes requests that differ in caller, key and body.
pub(crate) struct Pen {
    world: Rc<World>,
    body: String,
    keys: u64,
}

impl Pen {
    pub(crate) fn new(world: &Rc<World>) -> Self {
        Self { world: Rc::clone(world), body: String::with_capacity(512), keys: 0 }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) const fn next_key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    /// A POST of the body written so far, under a key that is new unless `key` was used before.
    pub(crate) fn post(&self, request: &mut Vec<u8>, path: &str, key: u64) {
        let caller = usize::try_from(key).unwrap_or(0) % self.world.tokens.len();
        write!(
            request,
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\nidempotency-key: bench-{}-{key:010}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            self.world.tokens[caller],
            self.world.run,
            self.body.len(),
            self.body,
        )
        .expect("memory takes everything");
    }

    pub(crate) fn put(&self, request: &mut Vec<u8>, path: &str) {
        write!(
            request,
            "PUT {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{}",
            self.world.tokens[0],
            self.body.len(),
            self.body,
        )
        .expect("memory takes everything");
    }

    pub(crate) fn get(&self, request: &mut Vec<u8>, path: std::fmt::Arguments<'_>) {
        let token = &self.world.tokens[fastrand::usize(..self.world.tokens.len())];
        write!(
            request,
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\r\n"
        )
        .expect("memory takes everything");
    }

    pub(crate) fn say(&mut self, body: std::fmt::Arguments<'_>) {
        self.body.clear();
        self.body.write_fmt(body).expect("memory takes everything");
    }

    /// A booking of a minute, so many minutes after the start of the world.
    pub(crate) fn say_booking(&mut self, minute: i64, service_type: &str) {
        let world = Rc::clone(&self.world);
        let start = world.start + SignedDuration::from_mins(minute);
        let end = start + SignedDuration::from_mins(1);
        let patient = &world.patients[fastrand::usize(..world.patients.len())];
        let practitioner = &world.practitioners[fastrand::usize(..world.practitioners.len())];
        self.say(format_args!(
            r#"{{"patientId":"{patient}","practitionerId":"{practitioner}","start":"{start}","end":"{end}","serviceType":"{service_type}"}}"#
        ));
    }
}

/// Bookings of a minute at random times, each with its patient check.
pub(crate) struct Book {
    pub(crate) pen: Pen,
    /// Within so many minutes.
    pub(crate) within: i64,
}

impl Workload for Book {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        let key = self.pen.next_key();
        self.pen.say_booking(fastrand::i64(0..self.within), "visit");
        self.pen.post(request, "/appointments", key);
        Service::Appointment
    }
}

/// Payments of a cent, on random bills of the first so many.
pub(crate) struct Pay {
    pub(crate) pen: Pen,
    pub(crate) bills: usize,
}

impl Workload for Pay {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        let key = self.pen.next_key();
        let bill = fastrand::usize(..self.bills.min(self.pen.world.bills.len()));
        let world = Rc::clone(&self.pen.world);
        self.pen.say(format_args!(
            r#"{{"billId":"{}","amount":{{"amount":"0.01","currency":"USD"}},"method":"cash"}}"#,
            world.bills[bill]
        ));
        self.pen.post(request, "/payments", key);
        Service::Billing
    }
}

/// Every booking is sent so many times under its key, most of them at once.
pub(crate) struct SameKey {
    pub(crate) pen: Pen,
    pub(crate) times: u64,
    pub(crate) sent: u64,
    pub(crate) request: Vec<u8>,
}

impl Workload for SameKey {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        if self.sent.is_multiple_of(self.times) {
            let key = self.pen.next_key();
            self.pen.say_booking(fastrand::i64(0..SLOTS), "visit");
            self.request.clear();
            self.pen.post(&mut self.request, "/appointments", key);
        }
        self.sent += 1;
        request.extend_from_slice(&self.request);
        Service::Appointment
    }
}

/// Patients by id.
pub(crate) struct Read(pub(crate) Pen);

impl Workload for Read {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        let world = self.0.world();
        let patient = &world.patients[fastrand::usize(..world.patients.len())];
        self.0.get(request, format_args!("/patients/{patient}"));
        Service::Patient
    }
}

/// A day at the desk: of ten requests, four look a patient up, two book, two look at a bill, one pays, one asks what a patient was told.
pub(crate) struct Mixed {
    pub(crate) read: Read,
    pub(crate) book: Book,
    pub(crate) pay: Pay,
}

impl Mixed {
    pub(crate) fn new(world: &Rc<World>) -> Self {
        let pen = || {
            let mut pen = Pen::new(world);
            // Each has keys of its own.
            pen.keys = fastrand::u64(..1 << 33);
            pen
        };
        Self {
            read: Read(pen()),
            book: Book { pen: pen(), within: SLOTS },
            pay: Pay { pen: pen(), bills: usize::MAX },
        }
    }
}

impl Workload for Mixed {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        let pen = &self.read.0;
        let world = Rc::clone(&pen.world);
        match fastrand::u8(0..10) {
            0..4 => self.read.next(request),
            4..6 => self.book.next(request),
            6..8 => {
                let bill = &world.bills[fastrand::usize(..world.bills.len())];
                pen.get(request, format_args!("/bills/{bill}"));
                Service::Billing
            }
            8 => self.pay.next(request),
            _ => {
                let patient = &world.patients[fastrand::usize(..world.patients.len())];
                pen.get(request, format_args!("/notifications?patientId={patient}&limit=5"));
                Service::Notification
            }
        }
    }
}
