"""The stage that turns stored fingerprints into findings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lineage.errors import NotFoundError, SchemaError
from lineage.infer.assemble import ALL_PAIRS_UP_TO, infer_lineage
from lineage.pipeline.edge_layers import describe_edges
from lineage.pipeline.inference_code import inference_code
from lineage.pipeline.progress import talk
from lineage.store.findings import (
    count_pairs,
    current_findings,
    replace_findings,
    replace_pairs,
)
from lineage.store.fingerprint_ledger import LedgerRow, fingerprint_rows
from lineage.store.fingerprint_parts import read_fingerprints, read_sketches
from lineage.store.home import Home
from lineage.store.runs import last_inputs, record_run
from lineage.store.snapshots import latest_snapshots, standing_claims
from lineage.weights.probe import SCHEME

if TYPE_CHECKING:
    from lineage.weights.sketch import ModelSketch

__all__ = ["InferReport", "infer"]


@dataclass(frozen=True, slots=True)
class InferReport:
    """What an inference run did."""

    n_models: int
    n_pairs: int
    n_related: int
    n_changed: int
    by_kind: tuple[tuple[str, int], ...]
    by_grade: tuple[tuple[str, int], ...]


def infer(home: Home, *, ignore_claims: bool = False, parts: str | None = None) -> InferReport:
    """Infer the origin of every fingerprinted model and record what changed.

    The weights alone are asked: claims play no part in findings, with or without `ignore_claims`,
    which is recorded so that an evaluation can show it. Of so many models that not all pairs are
    tested, the declared ones are tested last, so that claims can be judged; `ignore_claims` leaves
    them out. Upload dates and likes are witnesses.
    Where fingerprints, witnesses and the code of the inference are those of the last run, its
    findings stand and nothing is computed.

    Parameters
    ----------
    parts
        Where the fingerprints are kept; default: in the home.

    Raises
    ------
    NotFoundError
        If nothing was crawled, or no model has a fingerprint.
    """
    home.require_database()
    connection = home.open_working()
    try:
        newest = {row.repo_id: row for row in fingerprint_rows(connection, SCHEME)}
        rows = [row for row in newest.values() if row.digest is not None]
        if not rows:
            raise NotFoundError(
                f"no fingerprints in {home.root}; run `herdbook fingerprint --home {home.root}`"
            )
        snapshots = latest_snapshots(connection)
        dates = {snapshot.ref.repo_id: snapshot.created_at for snapshot in snapshots}
        likes = {snapshot.ref.repo_id: snapshot.likes for snapshot in snapshots}
        # Of many models candidate pairs only are tested: a declared pair may not be among them.
        are_many = len(rows) > ALL_PAIRS_UP_TO
        claimed = () if ignore_claims else _declared(connection)
        declared = claimed if are_many else ()
        inputs = _inputs_digest(rows, dates, likes, declared)
        unchanged = last_inputs(connection, "infer").get("digest") == inputs
        with record_run(
            connection,
            "infer",
            {"ignore_claims": ignore_claims, "scheme": SCHEME},
            {"fingerprints": len(rows), "digest": inputs, "code": inference_code()},
        ) as run_id:
            where = parts or home.fingerprints
            if unchanged:
                talk("nothing changed since the last inference")
                changed = 0
            else:
                found = infer_lineage(
                    list(read_fingerprints(where, rows)),
                    dates,
                    likes,
                    talk,
                    sketches=_sketches(where, rows) if are_many else None,
                    asked=declared,
                )
                replace_pairs(connection, run_id, found.pairs)
                changed = replace_findings(connection, run_id, found.findings)
            findings = current_findings(connection)
            try:
                describe_edges(connection, where, rows, findings, claimed, afresh=not unchanged)
            except SchemaError as error:
                if not unchanged:
                    raise
                # What stands needs no words read; only new claims are not described then.
                talk(f"declared parents were not described by layer: {error}")
        n_pairs, n_related = count_pairs(connection)
        kinds = Counter(str(finding.kind) for finding in findings)
        grades = Counter(str(finding.grade) for finding in findings)
        return InferReport(
            len(findings),
            n_pairs,
            n_related,
            changed,
            tuple(kinds.most_common()),
            tuple(grades.most_common()),
        )
    finally:
        connection.close()


def _declared(connection: duckdb.DuckDBPyConnection) -> tuple[tuple[str, str], ...]:
    """Declared pairs of child and parent, each once, in order."""
    claims = standing_claims(connection)
    return tuple(sorted({(one.child, one.parent) for one in claims if one.parent is not None}))


def _sketches(where: str | Path, rows: Sequence[LedgerRow]) -> dict[str, ModelSketch]:
    """Stored sketches by model."""
    stored = [row for row in rows if row.part is not None]
    found = zip(stored, read_sketches(where, stored), strict=True)
    return {row.repo_id: sketch for row, sketch in found if sketch is not None}


def _inputs_digest(
    rows: Sequence[LedgerRow],
    dates: Mapping[str, datetime | None],
    likes: Mapping[str, int | None],
    declared: Sequence[tuple[str, str]],
) -> str:
    """One digest of everything that findings are a function of, the code included."""
    digest = hashlib.sha256(inference_code().encode())
    digest.update(repr(declared).encode() if declared else b"")
    for row in sorted(rows, key=lambda row: row.repo_id):
        witness = (row.digest, dates.get(row.repo_id), likes.get(row.repo_id))
        digest.update(repr(witness).encode())
    return digest.hexdigest()
