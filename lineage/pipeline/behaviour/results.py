"""What was read of each model's behaviour, one file for each, kept in the home.

A file is named by everything that its numbers depend on: model, revision, prompts, settings, and
where it was run. It appears by rename, whole or not at all, so that a killed run loses the model
it was at and no other.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lineage import __version__
from lineage.errors import HomeError
from lineage.pipeline.behaviour.alleles import Alleles, BehaviourSettings

__all__ = ["BehaviourKey", "BehaviourResult", "load_result", "save_result"]

_FORMAT = 1
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class BehaviourKey:
    """What a result depends on.

    Attributes
    ----------
    model, revision
        Who was asked, and which state of it; of an endpoint its address.
    runner
        ``transformers`` or ``endpoint``.
    prompts
        SHA-256 of the prompts (:attr:`lineage.pipeline.behaviour.prompts.PromptSet.digest`).
    settings
        How continuations became alleles.
    """

    model: str
    revision: str
    runner: str
    prompts: str
    settings: BehaviourSettings

    @property
    def file_name(self) -> str:
        """A name for people, and a digest of all the rest."""
        said = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", self.model).strip("-.")[:80]
        return f"{readable}.{hashlib.sha256(said.encode()).hexdigest()[:24]}.json"


@dataclass(frozen=True, slots=True)
class BehaviourResult:
    """What one model says next at each prompt, and how that was found out."""

    alleles: tuple[Alleles, ...]
    provenance: Mapping[str, str]
    seconds: float


def save_result(folder: Path, key: BehaviourKey, result: BehaviourResult) -> BehaviourResult:
    """Write a result, all or nothing; returns it as :func:`load_result` will.

    Frequencies are kept to six digits: what a run shows at once and what it shows when it is kept
    must be the same.

    Raises
    ------
    HomeError
        If it cannot be written.
    """
    kept = BehaviourResult(
        tuple(
            Alleles({text: float(f"{share:.6g}") for text, share in one.frequencies.items()})
            for one in result.alleles
        ),
        result.provenance,
        round(result.seconds, 3),
    )
    stated = {
        "format": _FORMAT,
        "key": asdict(key),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "herdbook": __version__,
        "provenance": dict(kept.provenance),
        "seconds": kept.seconds,
        "alleles": [dict(one.frequencies) for one in kept.alleles],
    }
    file = folder / key.file_name
    partial = folder / f".{file.name}.{uuid.uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as out:
                json.dump(stated, out, ensure_ascii=True)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise HomeError(f"cannot write {file}: {error.strerror or error}") from error
    return kept


def load_result(folder: Path, key: BehaviourKey, n_prompts: int) -> BehaviourResult | None:
    """The result kept under `key`; None where there is none, or it is damaged."""
    try:
        file = folder / key.file_name
        if file.stat().st_size > _MAX_BYTES:
            return None
        stated = json.loads(file.read_text(encoding="utf-8"))
        if stated["format"] != _FORMAT or stated["key"] != asdict(key):
            return None
        alleles = tuple(
            Alleles({str(text): _share(share) for text, share in one.items()})
            for one in stated["alleles"]
        )
        provenance = {str(name): str(word) for name, word in stated["provenance"].items()}
        seconds = float(stated["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return BehaviourResult(alleles, provenance, seconds) if len(alleles) == n_prompts else None


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(f"no frequency: {value!r}")
    return float(value)
