//! Completes a document with what holds for every operation: the headers that the edge takes, the
//! answers that it gives by itself, the form of texts, and which request goes on from which answer.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::{
    Object, ObjectBuilder, OpenApi, RefOr, Required, Schema,
    header::HeaderBuilder,
    link::LinkBuilder,
    path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    schema::{SchemaType, Type},
};

/// What `hospital_types::text` takes: one line with something to read in it.
const ONE_LINE: &str = "^\\s*[^\\s\\x00-\\x1f\\x7f-\\x9f]([^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f])?\\s*$";
/// 1 to 255 printable ASCII characters, without spaces at the ends.
const KEY: &str = "^[!-~]([ -~]*[!-~])?$";
/// An ETag of ours. `*` is taken too, and says nothing.
const ETAG: &str = "^(W/)?\"[0-9]{1,9}\"$";

pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            take_headers(path, &method, operation);
        }
    }
    link(document);
    bound_texts(document);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// `Idempotency-Key` on what creates or steps, `If-Match` on what changes something that is there.
fn take_headers(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let one = path.contains('{');
    let parameters = operation.parameters.get_or_insert_default();
    if matches!(method, HttpMethod::Post | HttpMethod::Patch) {
        // A payment declares its key, because it needs one.
        let required = parameters.iter().any(|p| is(p, "Idempotency-Key"));
        parameters.retain(|p| !is(p, "Idempotency-Key"));
        let schema = text().min_length(Some(1)).max_length(Some(255)).pattern(Some(KEY));
        let said = "Sent twice under one key, it is done once and answered alike.";
        parameters.push(header("Idempotency-Key", said, required, schema.build()).into());
    }
    if one && !matches!(method, HttpMethod::Get) {
        let said = "The version that was seen, as its ETag. Another one by now: 412.";
        let schema = text().pattern(Some(ETAG)).build();
        parameters.push(header("If-Match", said, false, schema).into());
    }
}

fn is(parameter: &RefOr<Parameter>, name: &str) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.name == name)
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn header(name: &str, description: &str, required: bool, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .required(if required { Required::True } else { Required::False })
        .schema(Some(schema))
        .build()
}

/// From what was created, by its id, to everything that may be asked of it.
fn link(document: &mut OpenApi) {
    let mut of_one: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, item) in &mut document.paths.paths {
        if let Some((collection, _)) = path.split_once("/{id}") {
            let ids = operations(item).filter_map(|(_, o)| o.operation_id.clone());
            of_one.entry(collection.to_owned()).or_default().extend(ids);
        }
    }
    for (path, item) in &mut document.paths.paths {
        let (Some(targets), Some(post)) = (of_one.get(path), item.post.as_mut()) else { continue };
        let Some(RefOr::T(created)) = post.responses.responses.get_mut("201") else { continue };
        for id in targets {
            let link = LinkBuilder::new().operation_id(id).parameter("id", "$response.body#/id");
            created.links.insert(id.clone(), link.build().into());
        }
        let place = ("Location", "Where it is.");
        for (name, description) in [place, ("ETag", "Its version, for If-Match.")] {
            let header = HeaderBuilder::new().description(Some(description)).schema(Some(text()));
            created.headers.insert(name.to_owned(), header.build().into());
        }
    }
}

/// Every text of a request body that has a longest length and no form of its own is one line.
fn bound_texts(document: &mut OpenApi) {
    let asked: Vec<String> = document
        .paths
        .paths
        .values()
        .flat_map(|item| [&item.put, &item.post, &item.patch])
        .flatten()
        .filter_map(|operation| operation.request_body.as_ref())
        .filter_map(|body| serde_json::to_value(body).ok())
        .flat_map(|body| references(&body))
        .collect();
    let Some(components) = &mut document.components else { return };
    let mut seen = std::collections::BTreeSet::new();
    let mut open = asked;
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(RefOr::T(schema)) = components.schemas.get_mut(&name) {
            open.extend(references(&json!(schema)));
            bound(schema);
        }
    }
}

fn bound(schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            let is_text = match &object.schema_type {
                SchemaType::Type(one) => *one == Type::String,
                SchemaType::Array(some) => some.contains(&Type::String),
                SchemaType::AnyValue => false,
            };
            let has_form =
                object.pattern.is_some() || object.format.is_some() || object.enum_values.is_some();
            if is_text && object.max_length.is_some() && !has_form {
                object.min_length = object.min_length.or(Some(1));
                object.pattern = Some(ONE_LINE.to_owned());
            }
            for property in object.properties.values_mut() {
                if let RefOr::T(property) = property {
                    bound(property);
                }
            }
        }
        Schema::OneOf(one) => {
            for item in &mut one.items {
                if let RefOr::T(item) = item {
                    bound(item);
                }
            }
        }
        _ => {}
    }
}

/// The names of the components that a part of a document refers to.
fn references(part: &serde_json::Value) -> Vec<String> {
    match part {
        serde_json::Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value.as_str()) {
                ("$ref", Some(to)) => {
                    to.rsplit('/').next().map(ToOwned::to_owned).into_iter().collect()
                }
                _ => references(value),
            })
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
