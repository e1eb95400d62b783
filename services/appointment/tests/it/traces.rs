//! Whose trace an event carries, and whom it names.

use futures_util::future::join_all;
use hospital_kit::{cause::Cause, sql};
use hospital_types::Role;
use jiff::ToSpan;

use crate::desk::{Desk, at};

#[tokio::test(flavor = "multi_thread")]
async fn bookings_that_are_done_together_keep_their_own_callers_and_traces() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    let bookings = (0..24_i64).map(|n| {
        let (desk, trace) = (&desk, format!("{:032x}", n + 1));
        let body = desk.booking(
            desk.patients.active(),
            practitioner,
            at("00:00") + (n * 10).minutes(),
            10,
        );
        let role = if n % 2 == 0 { Role::FrontDesk } else { Role::Admin };
        async move {
            let header = format!("00-{trace}-00f067aa0ba902b7-01");
            let request = desk.post("/appointments").role(role).trace(&header).body(&body);
            (role, trace, request.send().await)
        }
    });
    for (role, trace, reply) in join_all(bookings).await {
        assert_eq!(reply.status, 201, "{}", reply.body);
        let id: hospital_types::AppointmentId = reply.id().parse().unwrap();
        let sql = "SELECT o.traceparent, o.actor, h.actor FROM outbox o
                   JOIN history h ON h.appointment_id = o.aggregate WHERE o.aggregate = $1";
        let rows = desk.db.reader(&Cause::system("test")).read(sql!(sql, id)).await.unwrap();
        let (carried, told, kept): (String, String, String) =
            (rows[0].get(0), rows[0].get(1), rows[0].get(2));
        assert_eq!(carried[3..35], trace);
        let caller = format!("test-{}", role.as_str());
        assert_eq!((&told, &kept), (&caller, &caller));
    }
}
