//! The HTTP edge: routes, bodies, who may do what.

mod appointments;
mod lists;
mod practitioners;
mod steps;

use axum::Router;
use hospital_kit::{
    cause::Cause,
    db::Db,
    http::{Permission, Problem, with_docs},
    idempotency::Together,
    outcome::Broken,
    service::Context,
};
use hospital_types::{Actor, AppointmentId, Role, Roles};
use jiff::tz::TimeZone;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    book::Bookings,
    own::{Limits, Turns},
    patient_check::PatientCheck,
    store,
};

/// What the handlers are given.
#[derive(Clone)]
struct App {
    db: Db,
    patients: PatientCheck,
    bookings: Together<Bookings>,
    /// Those of patients without the desk. One that has too much would take the desk's apart.
    own_bookings: Together<Bookings>,
    own: Limits,
    turns: Turns,
    /// The facility's, in which "today" is.
    zone: TimeZone,
}

/// The service's routes, with their state, and their document.
pub(crate) fn routes(ctx: &Context) -> Result<(Router, OpenApi), Broken> {
    let app = App {
        db: ctx.db.clone(),
        patients: PatientCheck::new(ctx)?,
        bookings: Together::new(&ctx.db),
        own_bookings: Together::new(&ctx.db),
        own: Limits {
            bookings_max: ctx.config.appointment.patient_bookings_max,
            hours_max: ctx.config.appointment.patient_hours_max,
        },
        turns: Turns::new(),
        zone: ctx.config.facility.time_zone(),
    };
    let routes = OpenApiRouter::new()
        .routes(routes!(practitioners::register, practitioners::list))
        .routes(routes!(practitioners::show))
        .routes(routes!(appointments::book, lists::list))
        .routes(routes!(appointments::show))
        .routes(routes!(lists::history))
        .routes(routes!(steps::cancel))
        .routes(routes!(steps::reschedule))
        .routes(routes!(steps::arrive))
        .routes(routes!(steps::check_in))
        .routes(routes!(steps::complete))
        .routes(routes!(steps::no_show));
    let (routes, document) = with_docs(
        routes,
        "Hospital appointment service",
        "Practitioners and appointments: booking without double booking, and every step of a visit.",
    );
    Ok((routes.with_state(app), document))
}

/// Everybody who works here, and the patients, who see what is theirs.
struct Readers;
impl Permission for Readers {
    const ROLES: Roles = Roles::of(&[
        Role::FrontDesk,
        Role::Practitioner,
        Role::Cashier,
        Role::BillingManager,
        Role::Patient,
        Role::Admin,
    ]);
}

/// Who books, moves and calls off: the desk, and patients for themselves.
struct Bookers;
impl Permission for Bookers {
    const ROLES: Roles = Roles::of(&[Role::FrontDesk, Role::Patient, Role::Admin]);
}

/// Who takes a patient through the visit.
struct Visits;
impl Permission for Visits {
    const ROLES: Roles = Roles::of(&[Role::FrontDesk, Role::Practitioner, Role::Admin]);
}

struct Administrators;
impl Permission for Administrators {
    const ROLES: Roles = Roles::of(&[Role::Admin]);
}

impl App {
    /// Within what the caller books and moves, if it is a patient.
    fn own(&self, who: &Actor) -> Option<Limits> {
        (!who.works_here()).then_some(self.own)
    }

    /// What to answer to a request whose body is at fault: that the appointment is not there, or not theirs, comes first.
    async fn unless_missing(&self, cause: &Cause, id: AppointmentId, fault: Problem) -> Problem {
        match store::who_meets(self.db.reader(cause), id).await {
            Ok(Some((patient, _))) if cause.actor.may_see(patient) => fault,
            Ok(_) => Problem::not_found(),
            Err(broken) => broken.into(),
        }
    }
}
