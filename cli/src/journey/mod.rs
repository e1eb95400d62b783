//! `hospital journey`: what happened to one appointment, its bill, payments and messages, in one time line.
//!
//! From stored ids alone: the services' histories, event logs, inboxes and ledgers of dead letters, and the positions in the topics. Shows no
//! names, addresses or reasons that people wrote, since a reason may be clinical.

mod collect;
mod find;
mod print;

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{platform::PlatformArgs, stores::StoreArgs};

/// Shows one time line of an appointment across the four services
#[derive(clap::Args)]
pub(crate) struct JourneyArgs {
    /// An appointment, bill, payment, message or event by its id, a bill by its number, or the trace id of an answer
    id: String,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

/// What kind of thing happened; at one time, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Request,
    Step,
    Event,
    Published,
    DeadLetter,
    Waiting,
    Intervention,
    Received,
    Bill,
    Payment,
    Message,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) service: String,
    pub(crate) kind: Kind,
    pub(crate) what: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Uuid>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Appointment {
    pub(crate) id: Uuid,
    pub(crate) status: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) service_type: String,
    pub(crate) patient_id: Uuid,
    pub(crate) practitioner_id: Uuid,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bill {
    pub(crate) id: Uuid,
    pub(crate) number: Option<String>,
    pub(crate) status: String,
    pub(crate) currency: String,
    pub(crate) total: String,
    pub(crate) paid: String,
    pub(crate) reserved: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Journey {
    pub(crate) appointment: Option<Appointment>,
    pub(crate) bill: Option<Bill>,
    pub(crate) traces: Vec<String>,
    pub(crate) timeline: Vec<Entry>,
    /// Dead letters that are open, and what waits.
    pub(crate) open: Vec<Uuid>,
    /// Why the positions in the topics are not known, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bus: Option<String>,
}

#[expect(clippy::print_stderr, reason = "the command's answer, and no result")]
pub(crate) async fn run(args: &JourneyArgs, place: &PlatformArgs) -> anyhow::Result<ExitCode> {
    let stores = args.stores.open(place, "hospital-journey").await?;
    let appointments = find::appointments(&stores.client, args.id.trim()).await?;
    if appointments.is_empty() {
        eprintln!(
            "nothing is known of {}: give the id of an appointment, bill, payment, message or event, the number of a bill, or a trace id, \
             which is the `traceId` of an answer",
            args.id
        );
        return Ok(ExitCode::FAILURE);
    }
    let mut journeys = Vec::new();
    for id in appointments {
        journeys.push(collect::journey(&stores, id).await?);
    }
    if args.json {
        crate::dlq::print::json(&journeys)?;
    } else {
        journeys.iter().for_each(print::journey);
    }
    Ok(ExitCode::SUCCESS)
}
