"""What the truth file of the proving ground says beside ancestry: family, split, measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Label", "read_labels"]


@dataclass(frozen=True, slots=True)
class Label:
    """One model's place in the experiment, and what was measured while it was made."""

    family: str
    configuration: str
    split: str
    texts: tuple[str, ...]
    losses: Mapping[str, float]
    relative_change: float | None
    disguise: str | None


def read_labels(text: str) -> dict[str, Label]:
    """Labels of all models of a truth file, unpublished ones left out."""
    return {
        name: Label(
            entry["family"],
            entry["configuration"],
            entry["split"],
            tuple(entry["texts"]),
            entry["losses"],
            entry.get("relative_change"),
            entry.get("disguise"),
        )
        for name, entry in json.loads(text)["models"].items()
    }
