//! What was seen in a public system of this very shape, and cannot happen here: what takes whole processes to show.
//! `docs/reliability-seen.md` has the whole list.

use std::time::{Duration, Instant};

use crate::{
    apart::{Apart, Wishes},
    down::desk,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_between_commit_and_publish_still_bills_and_a_booking_never_waits_for_the_bus()
 {
    let mut apart = Apart::start(Wishes::default()).await;
    let desk = desk(&apart).await;
    desk.price("traffic", "120.00").await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    let body = desk.booking(&patient, &practitioner, 0);
    // Without the bus nothing is published, so that the kill comes between the commit and the publishing whenever it comes.
    apart.kill_database("bus");
    let started = Instant::now();
    let booked = desk.book("own", &body).await;
    assert_eq!(booked.status, 201, "{}", booked.body);
    let again = desk.book("own", &body).await;
    assert_eq!((again.status, again.id()), (201, booked.id()), "not \"already booked\"");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    apart.kill("appointment");
    apart.restart_database("bus");
    apart.start_again("appointment").await;
    let bill = desk.bill_of(&booked.id()).await;
    assert_eq!(bill["status"], "issued");
    assert_eq!(desk.all("billing", "/bills").await.len(), 1);
    apart.verify();
}
