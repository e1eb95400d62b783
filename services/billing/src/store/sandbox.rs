use hospital_kit::{db::Db, outcome::Broken, sql};
use hospital_types::{Currency, Money, PaymentId};

/// Records a charge under its payment's id; one that is there stays. Gives the outcome that stands.
pub(crate) async fn sandbox_record(
    db: &Db,
    payment: PaymentId,
    amount: Money,
    outcome: &'static str,
) -> Result<String, Broken> {
    let rows = db
        .write_alone("sandbox.record", sql!(
            "INSERT INTO sandbox_charge AS c (payment_id, amount, currency, outcome) VALUES ($1, $2, $3, $4)
             ON CONFLICT ON CONSTRAINT sandbox_charge_once DO UPDATE SET outcome = c.outcome
             RETURNING outcome",
            payment,
            amount.minor(),
            amount.currency().code().to_owned(),
            outcome,
        ))
        .await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

pub(crate) async fn sandbox_finish(db: &Db, payment: PaymentId) -> Result<(), Broken> {
    db.write_alone("sandbox.finish", sql!(
        "UPDATE sandbox_charge SET outcome = 'charged' WHERE payment_id = $1 AND outcome = 'processing'",
        payment,
    ))
    .await
    .map(|_| ())
}

/// What became of a charge; one that was never heard of is void from now on.
pub(crate) async fn sandbox_lookup(
    db: &Db,
    payment: PaymentId,
    amount: Money,
) -> Result<(String, Money), Broken> {
    let rows = db
        .write_alone("sandbox.lookup", sql!(
            "INSERT INTO sandbox_charge AS c (payment_id, amount, currency, outcome) VALUES ($1, $2, $3, 'void')
             ON CONFLICT ON CONSTRAINT sandbox_charge_once DO UPDATE SET outcome = c.outcome
             RETURNING outcome, amount, currency",
            payment,
            amount.minor(),
            amount.currency().code().to_owned(),
        ))
        .await?;
    let row = rows.first().expect("an upsert gives its row");
    let currency = Currency::parse(row.get(2)).unwrap_or_else(|_| amount.currency());
    Ok((row.get(0), Money::from_minor(row.get(1), currency)))
}
