//! The events as an AsyncAPI 3 document: channels are topics, messages are CloudEvents in Kafka's binary mode.

use std::collections::BTreeMap;

use hospital_contracts::{EventType, catalogue};
use serde_json::{Map, Value, json};

/// The document; `consumers` are the consumer groups with their topics.
pub(crate) fn document(consumers: &BTreeMap<&str, &[&str]>) -> anyhow::Result<Value> {
    let events = catalogue();
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    schemas.insert("CloudEventHeaders".to_owned(), headers());
    for event in &events {
        let name = &event.name;
        channels.insert(event.topic.to_owned(), channel(event));
        operations.insert(format!("{}.publish.{}", event.source, event.topic), send(event));
        messages.insert(name.clone(), message(event)?);
        for (name, schema) in &event.schemas {
            schemas.insert(name.clone(), serde_json::to_value(schema)?);
        }
    }
    for (group, topics) in consumers {
        for event in events.iter().filter(|event| topics.contains(&event.topic)) {
            operations.insert(format!("{group}.consume.{}", event.topic), receive(group, event));
        }
    }
    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hospital events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the services of the hospital tell each other. Each record is a CloudEvent 1.0 in Kafka's binary mode: its attributes \
                are headers, its value is the payload as JSON. The key is the aggregate's id, so that what happens to one appointment or one bill \
                keeps its order. A payload changes by addition only. Events carry ids and amounts; names, addresses and clinical texts never.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
            "tags": [{ "name": "patient" }, { "name": "appointment" }, { "name": "billing" }, { "name": "notification" }],
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{servers}",
                "protocol": "kafka",
                "description": "The hospital's Kafka cluster.",
                "variables": { "servers": { "default": "localhost:9092", "description": "host:port of a broker" } },
            },
        },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    }))
}

fn channel(event: &EventType) -> Value {
    json!({
        "address": event.topic,
        "description": event.meaning,
        "messages": { &event.name: { "$ref": format!("#/components/messages/{}", event.name) } },
        "bindings": { "kafka": {
            "topic": event.topic,
            "topicConfiguration": { "cleanup.policy": ["delete"], "retention.ms": 90_u64 * 86_400 * 1000 },
            "bindingVersion": "0.5.0",
        } },
    })
}

fn send(event: &EventType) -> Value {
    json!({
        "action": "send",
        "title": format!("{} publishes {}", event.source, event.topic),
        "summary": event.meaning,
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": [{ "$ref": format!("#/channels/{}/messages/{}", event.topic, event.name) }],
        "tags": [{ "name": event.source }],
    })
}

fn receive(group: &str, event: &EventType) -> Value {
    json!({
        "action": "receive",
        "title": format!("{group} acts on {}", event.topic),
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": [{ "$ref": format!("#/channels/{}/messages/{}", event.topic, event.name) }],
        "tags": [{ "name": group }],
        "bindings": { "kafka": {
            "groupId": { "type": "string", "enum": [group] },
            "bindingVersion": "0.5.0",
        } },
    })
}

fn message(event: &EventType) -> anyhow::Result<Value> {
    let example: Value = serde_json::from_str(event.example)?;
    Ok(json!({
        "name": event.cloud_type,
        "title": event.topic,
        "summary": event.meaning,
        "contentType": "application/json",
        "headers": { "allOf": [
            { "$ref": "#/components/schemas/CloudEventHeaders" },
            { "type": "object", "properties": {
                "ce_type": { "const": event.cloud_type },
                "ce_source": { "const": format!("urn:hospital:{}", event.source) },
            } },
        ] },
        "payload": { "$ref": format!("#/components/schemas/{}", event.name) },
        "bindings": { "kafka": {
            "key": { "type": "string", "format": "uuid", "description": "The aggregate's id." },
            "bindingVersion": "0.5.0",
        } },
        "examples": [{ "name": "published", "payload": example }],
    }))
}

fn headers() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "The attributes of a CloudEvent.",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"],
        "properties": {
            "ce_specversion": { "type": "string", "const": "1.0" },
            "ce_id": { "type": "string", "format": "uuid", "description": "The event's own id: the same event has the same one however often it is published." },
            "ce_type": text("The event's name and the version of its payload's shape."),
            "ce_source": text("The service that published it."),
            "ce_subject": { "type": "string", "format": "uuid", "description": "What it is about: an appointment, a bill, a payment, a patient." },
            "ce_time": { "type": "string", "format": "date-time", "description": "When the change was committed." },
            "content-type": { "type": "string", "const": "application/json" },
            "traceparent": text("W3C trace context of the request that began it."),
        },
    })
}
