#!/usr/bin/env python3
"""Writes a bill of materials (SBOM, CycloneDX 1.5) of each program in DIST to DIST/sbom: deploy/sbom.py DIST

cargo-cyclonedx knows the crates. What it cannot know is added here: the program's own digest, and
the C libraries that are linked into it, for which scanners have advisories of their own.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
SERVICES = ("patient", "appointment", "billing", "notification")


def describe(target):
    """What cargo-cyclonedx says of each executable of the workspace; it writes beside the manifests."""
    date = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    epoch = subprocess.run(date, capture_output=True, text=True, check=False).stdout.strip() or "0"
    try:
        subprocess.run(
            ["cargo-cyclonedx", "cyclonedx", "-qq", "--format", "json", "--spec-version", "1.5"]
            + ["--describe", "binaries", "--all", "--target", target],
            # The same sources give the same text, whenever it is made.
            env={"SOURCE_DATE_EPOCH": epoch, **os.environ},
            cwd=ROOT,
            check=True,
        )
        return {
            path.name.removesuffix("_bin.cdx.json"): path.read_text(encoding="utf-8")
            for path in written()
        }
    finally:
        for path in written():
            path.unlink()


def written():
    # Not the whole tree, which may have the target directory in it.
    return [*ROOT.glob("*/*_bin.cdx.json"), *ROOT.glob("*/*/*_bin.cdx.json")]


def library(name, version, vendor, licence):
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/{name}@{version}",
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": licence}],
        "cpe": f"cpe:2.3:a:{vendor}:{name}:{version}:*:*:*:*:*:*:*",
        "purl": f"pkg:generic/{name}@{version}",
    }


def c_libraries(bom, program):
    """Each with the crate that links it. A crate's version names the version of the sources in it."""
    crates = {component["name"]: component for component in bom["components"]}

    def inside(crate):
        return re.match(r"[0-9.]+", crates[crate]["version"].split("+")[1])[0]

    # The machine's own: what was linked is in the program.
    openssl = re.search(rb"OpenSSL (\d+\.\d+\.\d+[a-z]*) +\d+ \w{3} \d{4}", program)
    if openssl is None:
        sys.exit("which OpenSSL is linked into the program cannot be seen")
    yield "openssl-sys", library("openssl", openssl[1].decode(), "openssl", "Apache-2.0")
    for crate, name, vendor in (
        ("rdkafka-sys", "librdkafka", "confluent"),
        ("tikv-jemalloc-sys", "jemalloc", "jemalloc"),
    ):
        yield crate, library(name, inside(crate), vendor, "BSD-2-Clause")


def complete(text, path):
    # Where the sources lay is nobody's business, and differs from machine to machine.
    bom = json.loads(text.replace(f"file://{ROOT}/", "file:///"))
    program = path.read_bytes()
    digest = {"alg": "SHA-256", "content": hashlib.sha256(program).hexdigest()}
    bom["metadata"]["component"]["hashes"] = [digest]
    needs = {entry["ref"]: entry.setdefault("dependsOn", []) for entry in bom["dependencies"]}
    refs = {component["name"]: component["bom-ref"] for component in bom["components"]}
    for crate, added in list(c_libraries(bom, program)):
        needs[refs[crate]].append(added["bom-ref"])
        bom["components"].append(added)
        bom["dependencies"].append({"ref": added["bom-ref"]})
    return bom


def main(dist):
    programs = {"hospital": dist / "hospital"}
    programs |= {f"hospital-{name}": dist / name / f"hospital-{name}" for name in SERVICES}
    # Not this machine's, which may be no Linux: the programs were then built in a container.
    machine = int.from_bytes(programs["hospital"].read_bytes()[18:20], "little")
    boms = describe(f"{ELF_MACHINES[machine]}-unknown-linux-gnu")
    (dist / "sbom").mkdir(exist_ok=True)
    for name, path in programs.items():
        text = json.dumps(complete(boms[name], path), indent=1, ensure_ascii=False)
        (dist / "sbom" / f"{name}.cdx.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
