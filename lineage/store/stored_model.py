"""What the store keeps of one model: its fingerprint, its sketch, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from lineage.weights.fingerprint import Fingerprint

if TYPE_CHECKING:  # loading it loads torch, which the commands that only read do not need
    from lineage.weights.sketch import ModelSketch

__all__ = ["Provenance", "StoredModel", "content_digest", "rows_of_runs", "runs_of_rows"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """How and at what cost a fingerprint was made.

    Attributes
    ----------
    made_at
        When, with a time zone.
    herdbook_version
        Version of this program.
    endpoint
        The Hub it came from; None: a local folder.
    bytes_read, requests
        What was fetched: bytes (headers included) and range requests.
    weight_bytes, n_tensors, n_unknown
        Size of the weight files, tensors in their headers, and how many no rule of names knows.
    seconds
        Wall-clock time.
    budget_bytes
        Bytes that reading was allowed to cost.
    given_up
        Sentences that name what the budget cost.
    device
        Where the sketch was computed.
    run_id
        The run of the stage; None: unknown to the worker.
    """

    made_at: datetime
    herdbook_version: str
    endpoint: str | None = None
    bytes_read: int = 0
    requests: int = 0
    weight_bytes: int = 0
    n_tensors: int = 0
    n_unknown: int = 0
    seconds: float = 0.0
    budget_bytes: int | None = None
    given_up: tuple[str, ...] = ()
    device: str | None = None
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Everything that is stored of one model."""

    fingerprint: Fingerprint
    sketch: ModelSketch | None
    provenance: Provenance


def content_digest(fingerprint: Fingerprint) -> str:
    """Digest of everything in a fingerprint, sha256 in hexadecimal; equal ones are equal in all.

    A description of all fields, with the length of every run of bytes, is digested first, then the
    bytes in its order; so no two fingerprints share what is digested.
    """
    described, content = [], []
    for key, sample in sorted(fingerprint.samples.items()):
        extras = sorted(sample.extras.items())
        described.append(
            [
                key.role, key.layer, key.expert, sample.name, sample.dtype, list(sample.shape),
                runs_of_rows(sample.rows), sample.transposed, float(sample.shift).hex(),
                len(sample.words), [[name, len(data)] for name, data in extras],
            ]
        )  # fmt: skip
        content += [sample.words, *(data for _, data in extras)]
    header = json.dumps(
        [
            fingerprint.repo_id, fingerprint.revision, fingerprint.scheme, fingerprint.format,
            fingerprint.stage, list(fingerprint.file_digests), fingerprint.n_parameters,
            fingerprint.architecture, sorted(fingerprint.metadata.items()),
            sorted(fingerprint.tokens.items()), described,
        ]
    ).encode()  # fmt: skip
    digest = hashlib.sha256(len(header).to_bytes(8, "little"))
    for piece in (header, *content):
        digest.update(piece)
    return digest.hexdigest()


def runs_of_rows(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Rows as (first row, how many), in their order.

    >>> runs_of_rows([4, 5, 6, 9, 2])
    [(4, 3), (9, 1), (2, 1)]
    """
    runs: list[tuple[int, int]] = []
    for place, row in enumerate(rows):
        if place == 0 or row != rows[place - 1] + 1:
            runs.append((row, 0))
        runs[-1] = (runs[-1][0], runs[-1][1] + 1)
    return runs


def rows_of_runs(runs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The inverse of :func:`runs_of_rows`."""
    return tuple(chain.from_iterable(range(first, first + n) for first, n in runs))
