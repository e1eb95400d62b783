//! Registers a practitioner.

use hospital_contracts::appointment::PractitionerView;
use hospital_contracts::patient::Identifier;
use hospital_kit::{db::Tx, outcome::Outcome};
use hospital_types::{PractitionerId, Sensitive};

use crate::{refused::RegistrationRefused, store};

#[derive(Clone, Debug)]
pub struct RegisterPractitioner {
    pub name: Sensitive<String>,
    pub specialty: Option<String>,
    pub identifiers: Vec<Identifier>,
}

/// Gives the practitioner an id; an identifier of somebody else's is refused.
pub async fn register_practitioner(
    tx: &mut Tx<RegistrationRefused>,
    cmd: &RegisterPractitioner,
) -> Outcome<PractitionerView, RegistrationRefused> {
    let practitioner = PractitionerView {
        id: PractitionerId::new(),
        version: 1,
        name: cmd.name.clone(),
        specialty: cmd.specialty.clone(),
        identifiers: cmd.identifiers.clone(),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    store::insert_practitioner(tx, &practitioner);
    store::insert_practitioner_identifiers(tx, &practitioner);
    Ok(practitioner)
}
