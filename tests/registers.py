"""Small registers for tests: a working database written row by row, without a Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lineage.model import Finding, Grade, Kind, PairTest, PairVerdict, ParentShare
from lineage.store.findings import replace_findings, replace_pairs
from lineage.store.home import Home

START = datetime(2025, 1, 1, tzinfo=UTC)
COMMIT = "0123456789" * 4


def add_model(connection, repo_id, *, day=0, status="ok", revision=COMMIT, **fields):
    row = {
        "repo_id": repo_id,
        "revision": revision,
        "observed_at": START + timedelta(days=100 + day),
        "status": status,
        "created_at": START + timedelta(days=day),
        "licence": "mit" if status == "ok" else None,
        **fields,
    }
    downloads = row.pop("downloads_30d", 10 if status == "ok" else None)
    likes = row.pop("likes", None)
    names = ", ".join(row)
    marks = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO snapshot ({names}) VALUES ({marks})", list(row.values()))
    connection.execute(
        "INSERT INTO repository (repo_id, first_seen, listed_at, status, revision) SELECT $1, $2,"
        " $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM repository WHERE repo_id = $1)",
        [repo_id, row["observed_at"], status, revision],
    )
    connection.execute(
        "INSERT INTO observation VALUES (?, ?, ?, NULL, ?, NULL, 'hub')",
        [repo_id, row["observed_at"], downloads, likes],
    )


def add_claim(connection, child, parent, *, revision=COMMIT, text="base_model: x"):
    connection.execute(
        "INSERT INTO claim VALUES (?, ?, ?, 'finetune', 'card', ?, NULL, NULL, ?, ?, NULL, NULL)",
        [child, parent, parent, text, revision, START],
    )


def add_run(connection, stage, seconds=1.0, **parameters):
    connection.execute(
        "INSERT INTO run SELECT coalesce(max(run_id), 0) + 1, ?, ?, ?, '0', ?, '{}', '{}' FROM run",
        [stage, START, START + timedelta(seconds=seconds), json.dumps(parameters)],
    )


def add_fingerprint(connection, repo_id, *, bytes_read=100, weight_bytes=1000, is_read=True):
    connection.execute(
        "INSERT INTO fingerprint (repo_id, revision, scheme, digest, format, bytes_read, requests,"
        " weight_bytes, n_tensors, seconds, made_at)"
        " VALUES (?, ?, 's', ?, 'safetensors', ?, 3, ?, 9, 0.1, ?)",
        [repo_id, COMMIT, "d" if is_read else None, bytes_read, weight_bytes, START],
    )


def found(child, *parents, kind=Kind.FINETUNE, grade=Grade.INFERRED, **more):
    share = 1.0 / max(len(parents), 1)
    return Finding(
        child,
        kind if parents else Kind.FOUNDER,
        grade,
        tuple(ParentShare(parent, share) for parent in parents),
        **more,
    )


def make_home(
    root: Path, findings: Sequence[Finding], claims: Sequence[tuple[str, str]] = ()
) -> Home:
    """A home with a model for every finding, dated in their order, and the claims given."""
    home = Home(root)
    with home.open_working() as connection:
        for day, finding in enumerate(findings):
            add_model(connection, finding.child, day=day)
            add_fingerprint(connection, finding.child)
        for child, parent in claims:
            add_claim(connection, child, parent)
        for stage in ("crawl", "fingerprint", "infer"):
            add_run(connection, stage, endpoint="http://127.0.0.1:1")
        replace_findings(connection, 1, findings)
        names = sorted(finding.child for finding in findings)
        replace_pairs(
            connection,
            1,
            [
                PairTest(a, b, PairVerdict.RELATED, 9.0, 1e-9, 0.5)
                for i, a in enumerate(names)
                for b in names[i + 1 :]
            ],
        )
    return home
