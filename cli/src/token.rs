//! `hospital token`: a token for a person or a program, signed with the platform's own key.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use hospital_kit::auth::{Claims, SigningKey};
use hospital_types::{PatientId, PractitionerId, Role, Roles};

use crate::platform::PlatformArgs;

/// Prints a token, and nothing else, on stdout
#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// A role that the bearer has; repeat it for more
    #[arg(long = "role", required = true, value_parser = parse_role)]
    roles: Vec<Role>,

    /// Who the bearer is: an account name, which the platform writes beside every change
    #[arg(long)]
    subject: Option<String>,

    /// The patient that the bearer is, for the role `patient`
    #[arg(long)]
    patient: Option<PatientId>,

    /// The practitioner that the bearer is, for the role `practitioner`: without it the bearer
    /// counts as each of them
    #[arg(long)]
    practitioner: Option<PractitionerId>,

    /// How long the token lasts, such as 30m, 12h or 7d
    #[arg(long, default_value = "12h", value_parser = parse_ttl)]
    ttl: Duration,
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let known: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
        format!("the roles are {}", known.join(", "))
    })
}

pub(crate) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and s, m, h or d, such as 12h".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(seconds) {
        Some(seconds) if (1..=366 * 86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("from 1s to 366d".to_owned()),
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) async fn run(args: &TokenArgs, platform: &PlatformArgs) -> anyhow::Result<()> {
    if args.roles.contains(&Role::Patient) && args.patient.is_none() {
        bail!("a patient's token needs --patient ID: whom it speaks for");
    }
    if args.practitioner.is_some() && !args.roles.contains(&Role::Practitioner) {
        bail!("--practitioner says who has the role practitioner: add --role practitioner");
    }
    let key = platform.find_started().await?.signing_key;
    let first = args.roles.first().map_or("nobody", |role| role.as_str());
    let subject = args.subject.as_deref().unwrap_or(first);
    let claims = Claims {
        subject: subject.to_owned(),
        roles: Roles::of(&args.roles),
        patient: args.patient,
        practitioner: args.practitioner,
    };
    println!("{}", sign_for(&key, &claims, args.ttl)?);
    Ok(())
}

/// A token that lasts as long as a command may run.
pub(crate) fn sign(
    key: &Path,
    subject: &str,
    roles: &[Role],
    patient: Option<PatientId>,
) -> anyhow::Result<String> {
    let (subject, roles) = (subject.to_owned(), Roles::of(roles));
    let claims = Claims { subject, roles, patient, practitioner: None };
    sign_for(key, &claims, Duration::from_secs(12 * 3600))
}

fn sign_for(key: &Path, claims: &Claims, ttl: Duration) -> anyhow::Result<String> {
    let signer = SigningKey::load(key).with_context(|| {
        format!(
            "cannot read the signing key {}: has `hospital up` run here? (or give --signing-key)",
            key.display()
        )
    })?;
    signer.sign(claims, ttl).context("cannot sign the token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_have_a_unit() {
        assert_eq!(parse_ttl("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(parse_ttl("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "12", "h", "-1h", "0s", "999999999999d", "1é"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }
}
