//! Encounters as back-dated appointments, taken through their life to `completed`.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Import, expect_known, key,
    people::People,
    plan,
    report::End,
    synthea::{Encounter, Folder},
    system,
};

const KIND: &str = "appointments";

impl Import {
    /// Books every encounter; gives the appointment's id for each that was accepted, in the folder's order.
    pub(super) async fn schedule(
        &self,
        folder: &Folder,
        people: &People,
    ) -> anyhow::Result<Vec<Option<String>>> {
        let bar = self.bar(KIND, folder.encounters.len());
        let waits = plan::dependencies(&folder.encounters);
        let done: Vec<CancellationToken> =
            folder.encounters.iter().map(|_| CancellationToken::new()).collect();
        // `buffered` starts them in order, so what one waits for has always been started before it.
        let booked = stream::iter(folder.encounters.iter().zip(waits).zip(&done))
            .map(|((encounter, waits), own)| {
                let (done, bar) = (&done, &bar);
                async move {
                    for earlier in waits {
                        done[earlier].cancelled().await;
                    }
                    let id = self.book(encounter, people).await?;
                    own.cancel();
                    if let Some((id, status)) = &id {
                        self.complete(encounter, id, status).await?;
                    }
                    bar.inc(1);
                    anyhow::Ok(id.map(|(id, _)| id))
                }
            })
            .buffered(self.workers)
            .try_collect()
            .await?;
        bar.finish();
        Ok(booked)
    }

    /// The appointment's id and status, or `None` when it was refused.
    async fn book(
        &self,
        encounter: &Encounter,
        people: &People,
    ) -> anyhow::Result<Option<(String, String)>> {
        let place = &encounter.place;
        let patient = people.patients.get(&encounter.patient);
        let practitioner = people.practitioners.get(&encounter.practitioner);
        let (Some(patient), Some(practitioner)) = (patient, practitioner) else {
            let (code, whom) = if patient.is_none() {
                ("patient-unknown", "patient")
            } else {
                ("practitioner-unknown", "practitioner")
            };
            let reason = format!("its {whom} is not in the folder, or was refused");
            self.report.refuse(KIND, place, code, &reason);
            return Ok(None);
        };
        let body = json!({
            "patientId": patient,
            "practitionerId": practitioner,
            "start": encounter.start,
            "end": encounter.stop,
            "serviceType": encounter.service_type,
            "backDated": true,
            "identifiers": [{ "system": system("encounter"), "value": place.id }],
        });
        let key = key("encounter", &place.id, &body);
        let answer = self.client.post("appointment", "/appointments", &key, Some(&body)).await?;
        let id = if answer.is_success() {
            let end = if answer.replayed { End::Unchanged } else { End::Created };
            self.report.count(KIND, end);
            if !answer.replayed {
                return Ok(Some((answer.text("id")?.to_owned(), "booked".to_owned())));
            }
            answer.text("id")?.to_owned()
        } else if answer.code() == "identifier-taken" {
            self.report.count(KIND, End::Unchanged);
            expect_known(answer.body["appointmentId"].as_str(), "encounter", &place.id)?.to_owned()
        } else {
            self.report.refuse_answer(KIND, place, &answer);
            return Ok(None);
        };
        let now = self
            .client
            .get("appointment", &format!("/appointments/{id}"))
            .await?
            .succeed("reading an appointment")?;
        let status = now.text("status")?.to_owned();
        Ok(Some((id, status)))
    }

    /// Takes an appointment from where it is to `completed`.
    async fn complete(&self, encounter: &Encounter, id: &str, status: &str) -> anyhow::Result<()> {
        let steps: &[&str] = match status {
            "booked" | "arrived" => &["check-in", "complete"],
            "checked-in" => &["complete"],
            _ => &[],
        };
        for step in steps {
            let key = format!("synthea-{step}-{}", encounter.place.id);
            self.client
                .post("appointment", &format!("/appointments/{id}/{step}"), &key, None)
                .await?
                .succeed("completing an appointment")?;
        }
        Ok(())
    }
}
