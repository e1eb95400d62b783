//! Card numbers have no business here: only gateway tokens do (docs/rules.md, P8).

use serde_json::Value;

/// Whether anything in a request body looks like a card number: 13 to 19 digits, spaces and dashes aside, that pass Luhn's check.
pub(crate) fn is_in(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => is_in_value(&value),
        // Not JSON: it is refused anyway, but must not be refused with a number in it being logged.
        Err(_) => looks_like_one(&String::from_utf8_lossy(body)),
    }
}

fn is_in_value(value: &Value) -> bool {
    match value {
        Value::String(text) => looks_like_one(text),
        Value::Number(number) => looks_like_one(&number.to_string()),
        Value::Array(all) => all.iter().any(is_in_value),
        Value::Object(members) => {
            members.iter().any(|(name, value)| looks_like_one(name) || is_in_value(value))
        }
        Value::Null | Value::Bool(_) => false,
    }
}

fn looks_like_one(text: &str) -> bool {
    let text = without_uuids(text);
    text.split(|c: char| !(c.is_ascii_digit() || c == ' ' || c == '-'))
        .map(|run| run.bytes().filter(u8::is_ascii_digit).collect::<Vec<u8>>())
        .any(|digits| (13..=19).contains(&digits.len()) && passes_luhn(&digits))
}

/// Ids are not card numbers, even where all of an id's digits happen to be decimal.
fn without_uuids(text: &str) -> String {
    let is_uuid = |at: usize| {
        text.get(at..at + 36).is_some_and(|part| {
            part.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            })
        })
    };
    let (mut rest, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(c) = text.get(at..).and_then(|t| t.chars().next()) {
        if is_uuid(at) {
            rest.push('/');
            at += 36;
        } else {
            rest.push(c);
            at += c.len_utf8();
        }
    }
    rest
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0');
            if i % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_noticed_wherever_they_hide() {
        for body in [
            r#"{"cardToken": "4111111111111111"}"#,
            r#"{"reference": "my card is 4111 1111 1111 1111, thanks"}"#,
            r#"{"x": {"y": ["5500-0000-0000-0004"]}}"#,
            r#"{"amount": 4111111111111111}"#,
            r#"{"4111111111111111": 1}"#,
            "not json 4111111111111111",
        ] {
            assert!(is_in(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn tokens_ids_and_amounts_are_not_card_numbers() {
        for body in [
            r#"{"cardToken": "tok_ok", "amount": {"amount": "125.00", "currency": "USD"}}"#,
            r#"{"billId": "41111111-1111-1111-8111-111111111111"}"#,
            r#"{"reference": "synthea:41111111-1111-1111-8111-111111111111"}"#,
            r#"{"reference": "4111111111111112"}"#,
            r#"{"reference": "411111111111"}"#,
        ] {
            assert!(!is_in(body.as_bytes()), "{body}");
        }
    }
}
