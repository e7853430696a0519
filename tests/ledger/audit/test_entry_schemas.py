"""The shipped schemas of ledger entries say what the auditor holds entries to."""

import json
from pathlib import Path

from ledger.audit.shapes import KINDS, json_schema

FOLDER = Path(__file__).parents[3] / "configs" / "schema" / "entry"


def test_every_kind_has_its_shipped_schema_and_no_other_has():
    shipped = {
        p.name.removesuffix(".schema.json"): json.loads(p.read_text()) for p in FOLDER.iterdir()
    }
    assert shipped == {kind: json_schema(kind) for kind in KINDS}
