//! Reads a JSON value into a type, objects from objects only.
//!
//! serde's derived structs also accept a list of their fields in order, so that `["Ada", "Okafor"]` would be a person. What a client may send
//! is what the document says: an object.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StringDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

/// A value to read from.
pub(super) struct Strict<'a>(pub(super) &'a Value);

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.iter())),
            Value::Object(members) => {
                visitor.visit_map(Members { rest: members.iter(), value: None })
            }
            leaf => leaf.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.is_array() {
            return Err(Error::invalid_type(Unexpected::Seq, &visitor));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Value>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Strict(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Members<'a> {
    rest: serde_json::map::Iter<'a>,
    value: Option<&'a Value>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let name: StringDeserializer<Error> = name.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let value = self.value.take().expect("a member's name is read before its value");
        seed.deserialize(Strict(value))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Person {
        name: String,
        #[serde(default)]
        home: Option<Home>,
        #[serde(default)]
        all: Vec<Home>,
        #[serde(default)]
        amount: Option<Value>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Home {
        city: String,
    }

    fn read(value: &Value) -> Result<Person, String> {
        Person::deserialize(Strict(value)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for bad in [
            json!([]),
            json!(["Ada", null, [], null]),
            json!({"name": "Ada", "home": ["Lagos"]}),
            json!({"name": "Ada", "all": [["Lagos"]]}),
        ] {
            assert!(read(&bad).is_err_and(|e| e.contains("sequence")), "{bad}");
        }
    }

    #[test]
    fn objects_lists_numbers_and_null_are_read_as_ever() {
        let exact: Value = serde_json::from_str("12345678901234567890.50").unwrap();
        let value =
            json!({"name": "Ada", "home": null, "all": [{"city": "Lagos"}], "amount": exact});
        let person = read(&value).unwrap();
        assert_eq!((person.home, person.all.len()), (None, 1));
        assert_eq!(person.amount.unwrap().to_string(), "12345678901234567890.50");
        assert!(read(&json!({"name": 7})).is_err() && read(&json!({"name": "a", "x": 1})).is_err());
    }
}
