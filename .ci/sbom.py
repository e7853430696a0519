"""Writes what the software is made of: a CycloneDX 1.6 bill of materials and a list of licences.

    python .ci/sbom.py dist                       everything that is locked, development included
    python .ci/sbom.py dist --wheels wheelhouse   just the files of one wheelhouse, by their hashes

Same lock, same bytes: the serial number is derived from the content, the time is the last commit's.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import lockfile
import wheelhouse
from packaging.utils import canonicalize_name

NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562: names that are URLs
NOT_INSTALLED = {"colorama": "BSD-3-Clause"}  # locked for other systems only
FROM_CLASSIFIER = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
}
FROM_TEXT = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "LGPL-3.0": "LGPL-3.0-only",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "PSFL": "PSF-2.0",
}
_SPDX = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) \(?[A-Za-z0-9.+-]+\)?)*")


def licence(name: str) -> str:
    """Return a package's licence as an SPDX expression, from what its own metadata says."""
    try:
        said = distribution(name).metadata
    except PackageNotFoundError:
        return NOT_INSTALLED[name]
    if "License-Expression" in said:
        return said["License-Expression"]
    marks = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if "License ::" in c]
    known = [FROM_CLASSIFIER[m] for m in marks if m in FROM_CLASSIFIER]
    if known:
        return " OR ".join(known)
    text = said["License"].strip() if "License" in said else ""
    text = FROM_TEXT.get(text, text)
    if not _SPDX.fullmatch(text):
        raise SystemExit(f"{name}: no licence can be read from {text[:60]!r}, {marks}")
    return text


def purl(name: str, version: str) -> str:
    """Return the package URL of a release."""
    return f"pkg:pypi/{name}@{version}"


def component(pin: lockfile.Pin) -> dict[str, Any]:
    """Describe one locked package with every hash under which it may be installed."""
    name = purl(pin.name, pin.version)
    return {
        "type": "library",
        "bom-ref": name,
        "name": pin.name,
        "version": pin.version,
        "licenses": [{"expression": licence(pin.name)}],
        "purl": name,
        "externalReferences": [
            {"type": "distribution", "url": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for digest in pin.sha256s
        ],
    }


def wheel_component(wheel: Path) -> dict[str, Any]:
    """Describe one wheel by its own bytes."""
    name, version = wheel.name.split("-")[:2]
    name = canonicalize_name(name)
    raw = wheel.read_bytes()
    hashes = [
        {"alg": "SHA-256", "content": hashlib.sha256(raw).hexdigest()},
        {"alg": "SHA-512", "content": hashlib.sha512(raw).hexdigest()},
    ]
    return {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "hashes": hashes,
        "licenses": [{"expression": licence(name)}],
        "purl": purl(name, version),
        "properties": [{"name": "sop-gateway:file", "value": wheel.name}],
    }


def dependencies(components: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say who asks for whom, as far as it is in the list; the project itself comes first."""
    by_name: dict[str, list[str]] = {}
    for one in components:
        by_name.setdefault(one["name"], []).append(one["bom-ref"])
    values = lockfile.environment("3.11", "x86_64")
    extras = distribution(lockfile.PROJECT).metadata.get_all("Provides-Extra", [])
    root = purl(lockfile.PROJECT, distribution(lockfile.PROJECT).version)
    by_name.setdefault(lockfile.PROJECT, [root])
    rows = []
    for name, refs in sorted(by_name.items()):
        wanted = lockfile.needs(name, extras if name == lockfile.PROJECT else [], values)
        children = sorted({ref for child, _ in wanted for ref in by_name.get(child, [])})
        rows += [{"ref": ref, "dependsOn": children} for ref in refs]
    return rows


def document(components: list[dict[str, Any]], *, epoch: int) -> dict[str, Any]:
    """Put the bill together."""
    own = distribution(lockfile.PROJECT)
    root = purl(lockfile.PROJECT, own.version)
    parts = [c for c in components if c["name"] != lockfile.PROJECT]
    made = dt.datetime.fromtimestamp(epoch, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content: dict[str, Any] = {
        "metadata": {
            "timestamp": made,
            "authors": [{"name": "The sop-gateway authors"}],
            "component": next(
                (c | {"type": "application"} for c in components if c["name"] == lockfile.PROJECT),
                {
                    "type": "application",
                    "bom-ref": root,
                    "name": lockfile.PROJECT,
                    "version": own.version,
                    "licenses": [{"expression": "Apache-2.0"}],
                    "purl": root,
                },
            ),
        },
        "components": sorted(parts, key=lambda c: c["bom-ref"]),
        "dependencies": dependencies(components),
        "compositions": [{"aggregate": "complete", "dependencies": [root]}],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, digest)}",
        "version": 1,
    }
    return head | content


def of_lock(*, epoch: int) -> dict[str, Any]:
    """Return the bill of everything that is locked."""
    return document([component(pin) for pin in lockfile.read()], epoch=epoch)


def of_wheels(folder: Path, *, epoch: int) -> dict[str, Any]:
    """Return the bill of one wheelhouse."""
    return document([wheel_component(w) for w in sorted(folder.glob("*.whl"))], epoch=epoch)


def licences(bill: dict[str, Any]) -> str:
    """List every package with version and licence, for people."""
    rows = {
        (c["name"], c["version"], c["licenses"][0]["expression"])
        for c in (bill["metadata"]["component"], *bill["components"])
    }
    return "".join(f"{name:24} {version:14} {spdx}\n" for name, version, spdx in sorted(rows))


def encoded(bill: dict[str, Any]) -> str:
    """Write the bill as the file has it."""
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path, help="a wheelhouse to describe")
    given = parser.parse_args()
    epoch = wheelhouse.source_epoch()
    bill = of_wheels(given.wheels, epoch=epoch) if given.wheels else of_lock(epoch=epoch)
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "sop-gateway.cdx.json").write_text(encoded(bill), encoding="utf-8")
    (given.folder / "licences.txt").write_text(licences(bill), encoding="utf-8")
    print(f"{given.folder}/sop-gateway.cdx.json: {len(bill['components'])} components")


if __name__ == "__main__":
    main()
