//! What the platform's database says, read past the platform.

use std::collections::HashMap;

use anyhow::Context;
use jiff::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;

/// A patient's row.
#[derive(Clone, Debug, Default)]
pub struct Patient {
    pub id: Uuid,
    pub version: i32,
    /// How many steps its history has.
    pub steps: i64,
}

#[derive(Clone, Debug)]
pub struct Appointment {
    pub id: Uuid,
    pub patient: Uuid,
    pub practitioner: Uuid,
    pub service_type: String,
    /// Its steps by version, which begin with 1.
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub version: i32,
    pub status: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub actor: String,
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Payment {
    pub id: Uuid,
    pub bill: Uuid,
    pub amount: i64,
    pub status: String,
    pub age_s: f64,
}

/// Everything that people asked for, by the key under which they did.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By family name.
    pub patients: HashMap<String, Vec<Patient>>,
    /// By the reason of the visit.
    pub appointments: HashMap<String, Vec<Appointment>>,
    /// By caller and key.
    pub payments: HashMap<(String, String), Vec<Payment>>,
}

impl Facts {
    /// Reads all of it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let mut facts = Self::default();
        let rows = client
            .query(
                "SELECT p.family_name, p.id, p.version, (SELECT count(*) FROM patient.patient_history h WHERE h.patient_id = p.id)
                 FROM patient.patient p",
                &[],
            )
            .await
            .context("reading patients")?;
        for row in &rows {
            let patient = Patient { id: row.get(1), version: row.get(2), steps: row.get(3) };
            facts.patients.entry(row.get(0)).or_default().push(patient);
        }
        let mut steps = Self::steps(client).await?;
        let rows = client
            .query(
                "SELECT coalesce(reason, ''), id, patient_id, practitioner_id, service_type FROM appointment.appointment",
                &[],
            )
            .await
            .context("reading appointments")?;
        for row in &rows {
            let id: Uuid = row.get(1);
            facts.appointments.entry(row.get(0)).or_default().push(Appointment {
                id,
                patient: row.get(2),
                practitioner: row.get(3),
                service_type: row.get(4),
                steps: steps.remove(&id).unwrap_or_default(),
            });
        }
        let rows = client
            .query(
                "SELECT p.caller, p.key, p.id, p.bill_id, p.amount, p.status,
                        extract(epoch FROM now() - coalesce(j.held_until, p.created_at))::float8
                 FROM billing.payment p
                      LEFT JOIN billing.job j ON j.kind = 'payment.reconcile' AND j.key = p.id::text",
                &[],
            )
            .await
            .context("reading payments")?;
        for row in &rows {
            facts.payments.entry((row.get(0), row.get(1))).or_default().push(Payment {
                id: row.get(2),
                bill: row.get(3),
                amount: row.get(4),
                status: row.get(5),
                age_s: row.get(6),
            });
        }
        Ok(facts)
    }

    async fn steps(client: &Client) -> anyhow::Result<HashMap<Uuid, Vec<Step>>> {
        let rows = client
            .query(
                "SELECT appointment_id, version, to_status, starts_at, ends_at, actor, reason FROM appointment.history ORDER BY 1, 2",
                &[],
            )
            .await
            .context("reading steps")?;
        let mut steps: HashMap<Uuid, Vec<Step>> = HashMap::new();
        for row in &rows {
            steps.entry(row.get(0)).or_default().push(Step {
                version: row.get(1),
                status: row.get(2),
                start: row.get(3),
                end: row.get(4),
                actor: row.get(5),
                reason: row.get(6),
            });
        }
        Ok(steps)
    }
}
