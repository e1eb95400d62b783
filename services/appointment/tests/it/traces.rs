//! Whose trace an event carries.

use futures_util::future::join_all;
use hospital_kit::sql;
use jiff::ToSpan;

use crate::desk::{Desk, at};

#[tokio::test(flavor = "multi_thread")]
async fn bookings_that_are_done_together_keep_their_own_traces() {
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
        async move {
            let header = format!("00-{trace}-00f067aa0ba902b7-01");
            (trace, desk.post("/appointments").trace(&header).body(&body).send().await)
        }
    });
    for (trace, reply) in join_all(bookings).await {
        assert_eq!(reply.status, 201, "{}", reply.body);
        let id: hospital_types::AppointmentId = reply.id().parse().unwrap();
        let rows = desk.db.read(sql!("SELECT traceparent FROM outbox WHERE aggregate = $1", id));
        let carried: String = rows.await.unwrap()[0].get(0);
        assert_eq!(carried[3..35], trace);
    }
}
