"""The stage that reconciles claims with findings and publishes the graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from lineage.infer.reconcile import reconcile
from lineage.model import Edge
from lineage.store.findings import current_findings
from lineage.store.guard import count_coverage, require_no_losses
from lineage.store.home import Home
from lineage.store.plain_claims import dates_of_others, mark_plain_children, other_claims
from lineage.store.publish import build_publication
from lineage.store.reads import (
    inference_ignored_claims,
    stage_seconds,
    unrelated_pairs,
)
from lineage.store.runs import record_run

__all__ = ["PublishReport", "publish", "reconciled_edges"]


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What was published."""

    file: str
    sha256: str
    data_date: str
    n_models: int
    n_edges: int
    by_verdict: tuple[tuple[str, int], ...]
    ignored_claims: bool
    seconds: float


def reconciled_edges(
    connection: duckdb.DuckDBPyConnection, *, ignore_claims: bool
) -> tuple[Edge, ...]:
    """Edges of the working database as it stands, but for those of plain children.

    What concerns these follows from their claims alone and is left to the database
    (:mod:`lineage.store.plain_claims`, whose temporary tables are made here).
    """
    if ignore_claims:
        return reconcile((), current_findings(connection))
    mark_plain_children(connection)
    return reconcile(
        other_claims(connection),
        current_findings(connection),
        unrelated_pairs(connection),
        dates_of_others(connection),
    )


def publish(
    home: Home,
    *,
    ignore_claims: bool = False,
    accept_losses: bool = False,
    now: datetime | None = None,
) -> PublishReport:
    """Publish the working database.

    Claims are left out when `ignore_claims` is set, or when the latest inference was told to
    ignore them: a publication never mixes the two. A crawl that suddenly lost a share of the models
    or of their metadata (``[guard]`` in the settings) is not published, unless `accept_losses`.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    HomeError
        If the home cannot be written.
    HerdbookError
        If too much was lost against the last publication.
    """
    home.require_database()
    started = time.monotonic()
    connection = home.open_working()
    try:
        ignore = ignore_claims or inference_ignored_claims(connection)
        with record_run(connection, "publish", {"ignore_claims": ignore}):
            counts = count_coverage(connection, with_claims=not ignore)
            if not accept_losses:
                require_no_losses(home, counts, home.settings().guard)
            edges = reconciled_edges(connection, ignore_claims=ignore)
            seconds = stage_seconds(connection) | {"publish": time.monotonic() - started}
            published = build_publication(
                connection,
                home,
                edges,
                now=now or datetime.now(UTC),
                meta={
                    "endpoint": _endpoint(connection),
                    "ignore_claims": "true" if ignore else "false",
                    **{f"seconds_{stage}": f"{value:.3f}" for stage, value in seconds.items()},
                },
                counts=counts,
                with_claims=not ignore,
            )
        return PublishReport(
            published.file,
            published.sha256,
            published.data_date,
            published.n_models,
            published.n_edges,
            tuple(published.by_verdict.items()),
            ignore,
            time.monotonic() - started,
        )
    finally:
        connection.close()


def _endpoint(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute(
        "SELECT parameters ->> 'endpoint' FROM run WHERE stage = 'crawl'"
        " ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    return str(row[0]) if row is not None and row[0] is not None else ""
