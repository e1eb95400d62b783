//! Patients, practitioners and the kinds of service.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{
    Import, expect_known, key,
    report::End,
    synthea::{Folder, Patient, Place, Practitioner},
    system,
};

/// The platform's ids by the folder's.
#[derive(Default)]
pub(crate) struct People {
    pub(crate) patients: HashMap<String, String>,
    pub(crate) practitioners: HashMap<String, String>,
}

/// A row to register: where it stands, what is asked, and what the answer calls one that exists.
struct Registration<'a> {
    kind: &'static str,
    place: &'a Place,
    service: &'static str,
    path: &'static str,
    existing: &'static str,
    body: Value,
}

impl Import {
    pub(super) async fn people(&self, folder: &Folder) -> anyhow::Result<People> {
        self.service_types(folder).await?;
        let patients = folder.patients.iter().map(patient).collect();
        let practitioners = folder.practitioners.iter().map(practitioner).collect();
        let (patients, practitioners) = tokio::try_join!(
            self.register("patients", patients),
            self.register("practitioners", practitioners)
        )?;
        Ok(People { patients, practitioners })
    }

    /// Every class of encounter is a kind of service that is priced at the visit: its bill starts as a draft.
    async fn service_types(&self, folder: &Folder) -> anyhow::Result<()> {
        let codes: BTreeSet<&str> =
            folder.encounters.iter().map(|e| e.service_type.as_str()).collect();
        for code in codes {
            let known = self.client.get("billing", &format!("/service-types?code={code}")).await?;
            if known.body["items"].as_array().is_some_and(|items| !items.is_empty()) {
                self.report.count("service types", End::Unchanged);
                continue;
            }
            let name = code.replace('-', " ");
            self.client
                .put(
                    "billing",
                    &format!("/service-types/{code}"),
                    &json!({ "name": name, "pricedAtVisit": true }),
                )
                .await?
                .succeed("naming a kind of service")?;
            self.report.count("service types", End::Created);
        }
        Ok(())
    }

    async fn register(
        &self,
        kind: &'static str,
        rows: Vec<Registration<'_>>,
    ) -> anyhow::Result<HashMap<String, String>> {
        let bar = self.bar(kind, rows.len());
        let ids = stream::iter(rows)
            .map(|row| {
                let bar = &bar;
                async move {
                    let id = self.register_one(&row).await?;
                    bar.inc(1);
                    anyhow::Ok(id.map(|id| (row.place.id.clone(), id)))
                }
            })
            .buffer_unordered(self.workers)
            .try_filter_map(async |id| Ok(id))
            .try_collect()
            .await?;
        bar.finish();
        Ok(ids)
    }

    async fn register_one(&self, row: &Registration<'_>) -> anyhow::Result<Option<String>> {
        let key = key(row.kind, &row.place.id, &row.body);
        let answer = self.client.post(row.service, row.path, &key, Some(&row.body)).await?;
        if answer.is_success() {
            let end = if answer.replayed { End::Unchanged } else { End::Created };
            self.report.count(row.kind, end);
            return Ok(Some(answer.text("id")?.to_owned()));
        }
        if answer.code() == "identifier-taken" {
            self.report.count(row.kind, End::Unchanged);
            let known = answer.body[row.existing].as_str().map(ToOwned::to_owned);
            return expect_known(known, row.kind, &row.place.id).map(Some);
        }
        self.report.refuse_answer(row.kind, row.place, &answer);
        Ok(None)
    }
}

fn patient(row: &Patient) -> Registration<'_> {
    let mut body = json!({
        "gender": row.gender,
        "identifiers": [{ "system": system("patient"), "value": row.place.id }],
        // Whom the hospital already keeps as two patients, it has told apart.
        "acceptDuplicate": true,
    });
    // People have one name, or two; the service says what is missing.
    for (member, value) in [
        ("givenName", &row.given_name),
        ("familyName", &row.family_name),
        ("birthDate", &row.birth_date),
    ] {
        if !value.is_empty() {
            body[member] = value.clone().into();
        }
    }
    if !row.address.is_empty() {
        body["address"] = Value::Object(row.address.clone());
    }
    Registration {
        kind: "patients",
        place: &row.place,
        service: "patient",
        path: "/patients",
        existing: "patientId",
        body,
    }
}

fn practitioner(row: &Practitioner) -> Registration<'_> {
    let mut body = json!({
        "name": row.name,
        "identifiers": [{ "system": system("practitioner"), "value": row.place.id }],
    });
    if !row.specialty.is_empty() {
        body["specialty"] = row.specialty.clone().into();
    }
    Registration {
        kind: "practitioners",
        place: &row.place,
        service: "appointment",
        path: "/practitioners",
        existing: "practitionerId",
        body,
    }
}
