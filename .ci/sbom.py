"""Checks the bills of materials that a release has: sbom.py DIST

Against CycloneDX's schema, and that they are of these programs: each has one, with its digest, with
what it is known to be made of and nothing that only tests or the workspace's tools use.
"""

import hashlib
import json
import pathlib
import sys

import cyclonedx.schema
import jsonschema_rs

# One of each kind: a crate of ours, of the registry, and each C library that is linked.
ALL_HAVE = {"hospital-kit", "tokio", "rustls", "rdkafka-sys", "librdkafka", "openssl", "jemalloc"}
OWN = {"hospital-patient": "rlibphonenumber", "hospital-notification": "lettre", "hospital": "clap"}
NONE_HAS = {"hospital-testkit", "hospital-bench", "hospital-simulation", "plotters", "proptest"}


def validator():
    """CycloneDX's schemas are in its own library, whose validator takes half a minute for a bill: it
    compares each component with each. This one takes milliseconds."""
    folder = pathlib.Path(cyclonedx.schema.__file__).parent / "_res"

    def schema(name):
        return json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8"))

    referred = [(f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", schema(name)) for name in ("spdx", "jsf-0.82")]
    return jsonschema_rs.validator_for(schema("bom-1.5"), registry=jsonschema_rs.Registry(referred))


def faults(path, programs, valid):
    bom = json.loads(path.read_text(encoding="utf-8"))
    invalid = next(valid.iter_errors(bom), None)
    if invalid is not None:
        yield f"it is not CycloneDX 1.5: at {invalid.instance_path}, {invalid.message[:200]}"
        return
    name = path.name.removesuffix(".cdx.json")
    about = bom["metadata"]["component"]
    if about["name"] != name:
        yield f"it describes {about['name']}"
    digest = hashlib.sha256(programs[name].read_bytes()).hexdigest()
    if [sum["content"] for sum in about["hashes"]] != [digest]:
        yield "its digest is not the program's"
    names = {component["name"] for component in bom["components"]}
    wanted = ALL_HAVE | ({OWN[name]} if name in OWN else set())
    if wanted - names:
        yield f"it lacks {sorted(wanted - names)}"
    if NONE_HAS & names:
        yield f"the program is not made of {sorted(NONE_HAS & names)}"
    for component in bom["components"]:
        if not component.get("purl") or not component.get("version"):
            yield f"{component['name']} has no version or no package URL"
    known = {about["bom-ref"]} | {component["bom-ref"] for component in bom["components"]}
    used = {ref for entry in bom["dependencies"] for ref in [entry["ref"], *entry.get("dependsOn", [])]}
    if used - known:
        yield f"it depends on what it does not list: {sorted(used - known)[:3]}"
    print(f"{path.name}: {len(names)} components")


def main(dist):
    programs = {path.name: path for path in dist.glob("**/hospital*") if path.suffix != ".json"}
    boms = {path.name.removesuffix(".cdx.json"): path for path in (dist / "sbom").glob("*.cdx.json")}
    found = [f"only one of program and bill: {name}" for name in programs.keys() ^ boms.keys()]
    valid = validator()
    for name in programs.keys() & boms.keys():
        found += [f"{boms[name].name}: {fault}" for fault in faults(boms[name], programs, valid)]
    sys.exit("\n".join(found) if found else 0)


main(pathlib.Path(sys.argv[1]))
