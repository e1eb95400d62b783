use hospital_kit::{
    cause::Cause,
    db::{Reader, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::Money;
use tokio_postgres::Row;

use super::{currency, money};
use crate::{generate::Booked, price::ServiceType};

/// What the price list and the past say of a booked appointment.
pub(crate) struct Pricing {
    /// Name and price.
    pub(crate) price: Option<(String, Money)>,
    pub(crate) cancelled: bool,
    pub(crate) has_bill: bool,
}

/// Looks a batch up, in its order. Each appointment is locked first: its cancellation may be at work elsewhere.
pub(crate) async fn pricing<R>(tx: &mut Tx<R>, booked: &[Booked]) -> Outcome<Vec<Pricing>, R> {
    let ids: Vec<_> = booked.iter().map(|one| one.facts.appointment_id).collect();
    let codes: Vec<_> = booked.iter().map(|one| one.facts.service_type.clone()).collect();
    let times: Vec<_> = booked.iter().map(|one| one.at).collect();
    super::lock_appointments(tx, &ids);
    let rows = tx
        .read(sql!(
            "SELECT s.name, s.price, s.currency, c.appointment_id IS NOT NULL AS cancelled, b.id IS NOT NULL AS has_bill
             FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) WITH ORDINALITY AS w (appointment_id, code, at, place)
             -- What was in force; for a kind of service that was listed only later, what it was listed with first.
             LEFT JOIN LATERAL (
                 (SELECT h.name, h.price, h.currency, 1 AS choice FROM price_history h
                  WHERE h.code = w.code AND h.valid_from <= w.at ORDER BY h.valid_from DESC LIMIT 1)
                 UNION ALL
                 (SELECT h.name, h.price, h.currency, 2 FROM price_history h
                  WHERE h.code = w.code AND h.valid_from > w.at ORDER BY h.valid_from LIMIT 1)
                 ORDER BY choice LIMIT 1) s ON s.price IS NOT NULL
             LEFT JOIN cancelled_appointment c ON c.appointment_id = w.appointment_id
             LEFT JOIN bill b ON b.appointment_id = w.appointment_id
             ORDER BY w.place",
            ids,
            codes,
            times,
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| Pricing {
            price: row.get::<_, Option<String>>("name").map(|name| (name, money(row, "price"))),
            cancelled: row.get("cancelled"),
            has_bill: row.get("has_bill"),
        })
        .collect())
}

/// The version of a price list entry, which is locked until the end.
pub(crate) async fn lock_service_type<R>(tx: &mut Tx<R>, code: &str) -> Outcome<Option<i32>, R> {
    let lock = "SELECT version FROM service_type WHERE code = $1 FOR NO KEY UPDATE";
    let rows = tx.read(sql!(lock, code.to_owned())).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Sets a price list entry; gives it with whether it is new. Setting what is there already changes nothing. The table keeps its own
/// history, with the actor that it is told here.
pub(crate) async fn put_service_type<R>(
    tx: &mut Tx<R>,
    cause: &Cause,
    entry: &ServiceType,
) -> Outcome<(ServiceType, bool), R> {
    let actor = cause.actor.subject.clone();
    tx.write(sql!("SELECT set_config('hospital.actor', $1, true)", actor));
    let rows = tx
        .read(sql!(
            "INSERT INTO service_type AS s (code, name, price, currency, version, created_at) VALUES ($1, $2, $3, $4, 1, $5)
             ON CONFLICT ON CONSTRAINT service_type_code DO UPDATE SET name = excluded.name, price = excluded.price,
                 currency = excluded.currency,
                 version = s.version + ((s.name, s.price, s.currency) IS DISTINCT FROM (excluded.name, excluded.price, excluded.currency))::int
             RETURNING code, name, price, currency, version, created_at, xmax = 0 AS is_new",
            entry.code.clone(),
            entry.name.clone(),
            entry.price.map(Money::minor),
            entry.price.map(|p| p.currency().code().to_owned()),
            entry.created_at,
        ))
        .await?;
    let row = rows.first().expect("an upsert gives its row");
    Ok((service_type(row), row.get("is_new")))
}

/// One page by rising code, after `after`.
pub(crate) async fn service_types(
    db: Reader<'_>,
    code: Option<String>,
    after: Option<String>,
    limit: i64,
) -> Result<Vec<ServiceType>, Broken> {
    let rows = db
        .read(sql!(
            "SELECT code, name, price, currency, version, created_at FROM service_type
             WHERE ($1::text IS NULL OR code = $1) AND ($2::text IS NULL OR code > $2) ORDER BY code LIMIT $3",
            code,
            after,
            limit,
        ))
        .await?;
    Ok(rows.iter().map(service_type).collect())
}

fn service_type(row: &Row) -> ServiceType {
    let minor: Option<i64> = row.get("price");
    ServiceType {
        code: row.get("code"),
        name: row.get("name"),
        price: minor.map(|minor| Money::from_minor(minor, currency(row))),
        version: row.get("version"),
        created_at: row.get("created_at"),
    }
}
