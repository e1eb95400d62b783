"""Checks rendered manifests strictly against the newest Kubernetes that is known: kubernetes.py SERVICE_MONITOR_CRD PLAIN EVERYTHING

EVERYTHING is rendered with values that say of every port whom it leads to."""

import collections
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """The operator's schema, with members that it does not name refused."""
    if isinstance(schema, dict):
        schema = {name: strict(value) for name, value in schema.items()}
        if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


def service_monitor(path):
    with open(path, encoding="utf-8") as file:
        versions = yaml.safe_load(file)["spec"]["versions"]
    schema = strict(versions[0]["schema"]["openAPIV3Schema"])
    # In a resource's definition this is only "object".
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def faults(documents, narrowed):
    """What the schemas cannot know: pods that Kubernetes gives its own variables, or that may talk to everybody."""
    for document in documents if narrowed else ():
        if document["kind"] == "NetworkPolicy" and not all(rule.get("to") for rule in document["spec"]["egress"]):
            yield f"{document['metadata']['name']} lets pods out to any host"
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    for document in documents:
        if document["kind"] not in ("Deployment", "Job"):
            continue
        template = document["spec"]["template"]
        if template["spec"].get("enableServiceLinks") is not False:
            yield f"{document['metadata']['name']}: enableServiceLinks is not false"
        labels = template["metadata"]["labels"].items()
        covering = [policy for policy in policies if policy["podSelector"]["matchLabels"].items() <= labels]
        for direction in ("Ingress", "Egress"):
            if not any(direction in policy["policyTypes"] for policy in covering):
                yield f"{document['metadata']['name']}: no NetworkPolicy for {direction}"
        if document["kind"] == "Job" and "egress" in covering[0]:
            ports = {port["port"] for rule in covering[0]["egress"] for port in rule["ports"]}
            if ports != {53, 5432}:
                yield f"{document['metadata']['name']} may go to {ports}"


monitor = service_monitor(sys.argv[1])
newest = kubernetes_validate.latest_version()
plain, everything = sys.argv[2:]
for path in (plain, everything):
    kinds = collections.Counter()
    with open(path, encoding="utf-8") as file:
        documents = [document for document in yaml.safe_load_all(file) if document]
    for document in documents:
        kinds[document["kind"]] += 1
        try:
            if document["kind"] == "ServiceMonitor":
                jsonschema.validate(document, monitor)
            else:
                kubernetes_validate.validate(document, newest, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as fault:
            sys.exit(f"{path}: {document['kind']} {document['metadata']['name']}: {fault}")
    assert kinds, f"{path} is empty"
    for fault in faults(documents, narrowed=path == everything):
        sys.exit(f"{path}: {fault}")
    print(f"{path}, Kubernetes {newest}:", ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
