"""The stage that turns stored fingerprints into findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lineage.errors import NotFoundError
from lineage.infer.assemble import infer_lineage
from lineage.pipeline.progress import talk
from lineage.store.findings import fingerprint_rows, replace_findings, replace_pairs
from lineage.store.fingerprints import load_fingerprint
from lineage.store.home import Home
from lineage.store.observations import latest_snapshots
from lineage.store.runs import record_run
from lineage.weights.plan import SCHEME

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


def infer(home: Home, *, ignore_claims: bool = False) -> InferReport:
    """Infer the origin of every fingerprinted model and record what changed.

    The weights alone are asked: claims play no part in findings, with or without `ignore_claims`,
    which is recorded so that an evaluation can show it. Upload dates and likes are witnesses.

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
        with record_run(
            connection,
            "infer",
            {"ignore_claims": ignore_claims, "scheme": SCHEME},
            {"fingerprints": len(rows)},
        ) as run_id:
            fingerprints = [
                load_fingerprint(home.fingerprints, row.digest) for row in rows if row.digest
            ]
            found = infer_lineage(fingerprints, dates, likes, talk)
            replace_pairs(connection, run_id, found.pairs)
            changed = replace_findings(connection, run_id, found.findings)
        kinds = Counter(str(finding.kind) for finding in found.findings)
        grades = Counter(str(finding.grade) for finding in found.findings)
        return InferReport(
            len(found.findings),
            len(found.pairs),
            sum(pair.verdict == "related" for pair in found.pairs),
            changed,
            tuple(kinds.most_common()),
            tuple(grades.most_common()),
        )
    finally:
        connection.close()
