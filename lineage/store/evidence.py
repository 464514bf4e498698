"""Evidence as it stands in the database: a JSON list of objects with name, value and text."""

from __future__ import annotations

import json
from collections.abc import Iterable

from lineage.model import Evidence

__all__ = ["evidence_json", "read_evidence"]


def evidence_json(evidence: Iterable[Evidence]) -> str:
    """The text to store."""
    return json.dumps(
        [{"name": fact.name, "value": fact.value, "text": fact.text} for fact in evidence]
    )


def read_evidence(text: str) -> tuple[Evidence, ...]:
    """The evidence that was stored; a value that could not be measured is None."""
    return tuple(
        Evidence(
            str(fact["name"]),
            None if fact["value"] is None else float(fact["value"]),
            str(fact["text"]),
        )
        for fact in json.loads(text)
    )
