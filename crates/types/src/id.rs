//! Typed ids: a UUID that knows what it names, so that a patient's id cannot be passed where a bill's is wanted.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    str::FromStr,
};

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema},
};
use uuid::Uuid;

/// What an id can name.
pub trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
}

/// A UUID of one kind of thing. New ones are UUIDv7, so that they sort by the time they were made.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

impl<K: Kind> Id<K> {
    /// Makes a new id from the clock and randomness.
    #[expect(
        clippy::disallowed_methods,
        clippy::new_without_default,
        reason = "the one place that makes ids"
    )]
    pub fn new() -> Self {
        Self(Uuid::now_v7(), PhantomData)
    }

    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", K::NAME, self.0)
    }
}

impl<K> FromStr for Id<K> {
    type Err = uuid::Error;

    /// Takes the hyphenated form only: braces, URNs and bare digits are not ids on the wire.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let uuid: uuid::fmt::Hyphenated = s.parse()?;
        Ok(Self(uuid.into_uuid(), PhantomData))
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(|uuid| Self(uuid, PhantomData))
    }
}

impl<K: Kind> ToSql for Id<K> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }
    fn accepts(ty: &Type) -> bool {
        <Uuid as ToSql>::accepts(ty)
    }
    postgres_types::to_sql_checked!();
}
impl<'a, K> FromSql<'a> for Id<K> {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Uuid::from_sql(ty, raw).map(|uuid| Self(uuid, PhantomData))
    }
    fn accepts(ty: &Type) -> bool {
        <Uuid as FromSql>::accepts(ty)
    }
}

impl<K> PartialSchema for Id<K> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(schema::Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
            .into()
    }
}
impl<K: Kind> ToSchema for Id<K> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Id", K::NAME).into()
    }
}

macro_rules! kinds {
    ($($kind:ident, $alias:ident, $name:literal;)*) => {$(
        #[doc = concat!("Marks ids of a ", $name, ".")]
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const NAME: &'static str = $name;
        }
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    Patient, PatientId, "patient";
    Practitioner, PractitionerId, "practitioner";
    Appointment, AppointmentId, "appointment";
    Bill, BillId, "bill";
    Payment, PaymentId, "payment";
    Notification, NotificationId, "notification";
    Event, EventId, "event";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_version_7_and_rise() {
        let (a, b) = (PatientId::new(), PatientId::new());
        assert_eq!(a.uuid().get_version_num(), 7);
        assert!(a < b);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        assert!("018f3c5e-8c7a-7d0e-9b8e-4e2b6a1c2d3e".parse::<BillId>().is_ok());
        for text in
            ["", "018f3c5e8c7a7d0e9b8e4e2b6a1c2d3e", "{018f3c5e-8c7a-7d0e-9b8e-4e2b6a1c2d3e}", "x"]
        {
            assert!(text.parse::<BillId>().is_err(), "{text}");
        }
    }
}
