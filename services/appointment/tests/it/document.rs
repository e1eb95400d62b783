use serde_json::Value;

use crate::desk::Desk;

/// Every reference of the document, wherever it stands.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_has_every_route_and_every_schema_that_it_names() {
    let desk = Desk::open().await;
    let document = desk.get("/openapi.json").anonymous().send().await.body;
    let paths = document["paths"].as_object().unwrap();
    let mut operations: Vec<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    operations.sort();
    assert_eq!(
        operations,
        [
            "get /appointments",
            "get /appointments/{id}",
            "get /appointments/{id}/history",
            "get /practitioners",
            "get /practitioners/{id}",
            "post /appointments",
            "post /appointments/{id}/arrive",
            "post /appointments/{id}/cancel",
            "post /appointments/{id}/check-in",
            "post /appointments/{id}/complete",
            "post /appointments/{id}/no-show",
            "post /appointments/{id}/reschedule",
            "post /practitioners",
        ]
    );
    for operation in paths.values().flat_map(|methods| methods.as_object().unwrap().values()) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{operation}");
        for status in ["400", "401", "403", "503"] {
            assert!(operation["responses"][status].is_object(), "{status} of {operation}");
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
