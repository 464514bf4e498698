"""The stage that turns stored fingerprints into findings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lineage.errors import NotFoundError
from lineage.infer.assemble import infer_lineage
from lineage.pipeline.inference_code import inference_code
from lineage.pipeline.progress import talk
from lineage.store.findings import (
    count_pairs,
    current_findings,
    replace_findings,
    replace_pairs,
)
from lineage.store.fingerprint_ledger import LedgerRow, fingerprint_rows
from lineage.store.fingerprint_parts import read_fingerprints
from lineage.store.home import Home
from lineage.store.runs import last_inputs, record_run
from lineage.store.snapshots import latest_snapshots
from lineage.weights.probe import SCHEME

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
    which is recorded so that an evaluation can show it. Upload dates and likes are witnesses.
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
        inputs = _inputs_digest(rows, dates, likes)
        unchanged = last_inputs(connection, "infer").get("digest") == inputs
        with record_run(
            connection,
            "infer",
            {"ignore_claims": ignore_claims, "scheme": SCHEME},
            {"fingerprints": len(rows), "digest": inputs, "code": inference_code()},
        ) as run_id:
            if unchanged:
                talk("nothing changed since the last inference")
                changed = 0
            else:
                fingerprints = list(read_fingerprints(parts or home.fingerprints, rows))
                found = infer_lineage(fingerprints, dates, likes, talk)
                replace_pairs(connection, run_id, found.pairs)
                changed = replace_findings(connection, run_id, found.findings)
        findings = current_findings(connection)
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


def _inputs_digest(
    rows: Sequence[LedgerRow],
    dates: Mapping[str, datetime | None],
    likes: Mapping[str, int | None],
) -> str:
    """One digest of everything that findings are a function of, the code included."""
    digest = hashlib.sha256(inference_code().encode())
    for row in sorted(rows, key=lambda row: row.repo_id):
        witness = (row.digest, dates.get(row.repo_id), likes.get(row.repo_id))
        digest.update(repr(witness).encode())
    return digest.hexdigest()
