use hospital_contracts::appointment::PractitionerView;
use hospital_contracts::patient::Identifier;
use hospital_kit::{
    db::{Reader, Tx},
    outcome::Broken,
    sql,
};
use hospital_types::{PractitionerId, Sensitive};
use tokio_postgres::{Row, types::Json};

use super::columns;
use crate::refused::RegistrationRefused;

pub fn insert_practitioner<R>(tx: &mut Tx<R>, practitioner: &PractitionerView) {
    tx.write(sql!(
        "INSERT INTO practitioner (id, version, name, specialty, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        practitioner.id,
        practitioner.version,
        practitioner.name.expose().clone(),
        practitioner.specialty.clone(),
        practitioner.created_at,
        practitioner.updated_at,
    ));
}

pub fn insert_practitioner_identifiers(
    tx: &mut Tx<RegistrationRefused>,
    practitioner: &PractitionerView,
) {
    if practitioner.identifiers.is_empty() {
        return;
    }
    let (systems, values) = columns(&practitioner.identifiers);
    tx.write(sql!(
        "INSERT INTO practitioner_identifier (system, value, practitioner_id)
         SELECT i.system, i.value, $1 FROM unnest($2::text[], $3::text[]) AS i (system, value)",
        practitioner.id,
        systems,
        values,
    ))
    .refuse_on(
        "practitioner_identifier_once",
        RegistrationRefused::IdentifierTaken {
            wanted: practitioner.identifiers.clone(),
            holder: None,
        },
    );
}

macro_rules! practitioners {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.version, p.name, p.specialty, p.created_at, p.updated_at,
                    (SELECT coalesce(jsonb_agg(jsonb_build_object('system', i.system, 'value', i.value) ORDER BY i.system, i.value), '[]')
                     FROM practitioner_identifier i WHERE i.practitioner_id = p.id) AS identifiers
             FROM practitioner p ",
            $rest
        )
    };
}

pub async fn practitioner_by_id(
    db: Reader<'_>,
    id: PractitionerId,
) -> Result<Option<PractitionerView>, Broken> {
    let rows = db.read(sql!(practitioners!("WHERE p.id = $1"), id)).await?;
    Ok(rows.first().map(practitioner))
}

/// Which practitioners a list shows.
#[derive(Clone, Debug, Default)]
pub struct PractitionerFilter {
    /// How one of the words of the name begins, in any case. No character of it is a wildcard.
    pub name: Option<String>,
    pub specialty: Option<String>,
    pub identifier: Option<Identifier>,
}

/// A page of practitioners, oldest first, from behind the given one on. A facility has hundreds of them, so a name is looked for
/// without an index.
pub async fn practitioners(
    db: Reader<'_>,
    filter: &PractitionerFilter,
    after: Option<PractitionerId>,
    limit: i64,
) -> Result<Vec<PractitionerView>, Broken> {
    let rows = db
        .read(sql!(
            practitioners!(
                "WHERE p.id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
                   AND ($2::text IS NULL OR strpos(' ' || lower(p.name), ' ' || lower($2)) > 0)
                   AND ($3::text IS NULL OR p.specialty = $3)
                   AND ($4::text IS NULL OR p.id = (SELECT i.practitioner_id FROM practitioner_identifier i
                                                    WHERE i.system = $4 AND i.value = $5::text))
                 ORDER BY p.id LIMIT $6"
            ),
            after,
            filter.name.clone(),
            filter.specialty.clone(),
            filter.identifier.as_ref().map(|one| one.system.clone()),
            filter.identifier.as_ref().map(|one| one.value.clone()),
            limit,
        ))
        .await?;
    Ok(rows.iter().map(practitioner).collect())
}

/// The practitioner who has one of these identifiers.
pub async fn practitioner_holding(
    db: Reader<'_>,
    identifiers: &[Identifier],
) -> Result<Option<PractitionerId>, Broken> {
    let (systems, values) = columns(identifiers);
    let rows = db
        .read(sql!(
            "SELECT i.practitioner_id FROM practitioner_identifier i
             JOIN unnest($1::text[], $2::text[]) AS wanted (system, value) USING (system, value)
             ORDER BY i.system, i.value LIMIT 1",
            systems,
            values,
        ))
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

fn practitioner(row: &Row) -> PractitionerView {
    let Json(identifiers) = row.get("identifiers");
    PractitionerView {
        id: row.get("id"),
        version: row.get("version"),
        name: Sensitive::new(row.get("name")),
        specialty: row.get("specialty"),
        identifiers,
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}
