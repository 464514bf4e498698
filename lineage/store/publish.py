"""Build a publication: the compact, read-only database that the explorer and the commands open.

A publication is made beside the old one in a temporary file, checked, named by its time and only
then named by ``manifest.json``, which is replaced by a rename: a reader sees the old publication
or the new one, never half of one, whenever the process is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from lineage import __version__
from lineage.errors import HomeError, NotFoundError, SchemaError
from lineage.graph import LineageGraph
from lineage.model import Edge, Verdict
from lineage.store.companions import build_companions
from lineage.store.edge_layers import publish_edge_layers
from lineage.store.evidence import evidence_json
from lineage.store.home import Home
from lineage.store.licence_conflicts import fill_licence_conflicts
from lineage.store.plain_claims import insert_plain_edges
from lineage.store.publication import Companion, connect_publication, read_manifest
from lineage.store.reads import (
    CURRENT_CLAIMS,
    CURRENT_FINGERPRINTS,
    CURRENT_RECIPES,
    CURRENT_TRAITS,
    LATEST,
)
from lineage.store.schema import PUBLISHED, SCHEMA_VERSION, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Publication", "build_publication", "open_published"]

_KEPT = 2
_COPIED_WHOLE = {
    "problem": "repo_id", "pair": "a, b", "estimate": "ALL", "report": "kind, name",
    "alias": "old_id", "doubt": "child", "observation": "repo_id, observed_at",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published: file name, digest and counts."""

    file: str
    sha256: str
    data_date: str
    n_models: int
    n_edges: int
    by_verdict: Mapping[str, int]


def build_publication(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    edges: Sequence[Edge],
    *,
    now: datetime,
    meta: Mapping[str, str],
    counts: Mapping[str, int],
    with_claims: bool = True,
) -> Publication:
    """Publish the state of the working database together with `edges`.

    Parameters
    ----------
    connection
        The working database.
    home
        Where to publish.
    edges
        Reconciled edges, those of one child in order of position. Contradicted ones are stored
        but are no part of generations, counts and drawing positions; neither are parents outside
        the catalogue.
    now
        Time of publication (UTC), in the file's name.
    meta
        Lines for the table ``meta``, beside those that are always there.
    counts
        Kept in the manifest, for the next publication to be compared with.
    with_claims
        Whether the claims are published.

    Raises
    ------
    NotFoundError
        If no repository was crawled.
    HomeError
        If the folder cannot be written.
    SchemaError
        If what was written does not pass its checks (nothing is published then).
    """
    row = connection.execute(
        "SELECT (SELECT count(DISTINCT repo_id) FROM snapshot), strftime(greatest("
        "(SELECT max(observed_at) FROM snapshot), (SELECT max(listed_at) FROM repository)),"
        " '%Y-%m-%dT%H:%M:%SZ')"
    ).fetchone()
    if row is None or not row[0]:
        raise NotFoundError(
            f"nothing was crawled in {home.root}; run `herdbook crawl --home {home.root}` first"
        )
    data_date = str(row[1])
    name = f"herdbook-{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.duckdb"
    temporary = home.published / f".{name}.part"
    try:
        _remove_leftovers(home.published)
        _create(temporary)
        literal = str(temporary).replace("'", "''")
        connection.execute(f"ATTACH '{literal}' AS publication")
        try:
            n_models, n_edges = _fill(connection, edges, with_claims)
            _write_meta(connection, {
                **meta,
                "schema_version": str(SCHEMA_VERSION),
                "data_date": data_date,
                "published_at": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "herdbook_version": __version__,
            })  # fmt: skip
            _check(connection, n_models, n_edges)
            verdicts = _count_verdicts(connection)
        finally:
            connection.execute("DETACH publication")
        _sync(temporary)
        sha256 = _sha256(temporary)
        companions = build_companions(temporary, home.published, Path(name).stem)
        os.replace(temporary, home.published / name)
        _write_manifest(home.published, name, sha256, data_date, counts, companions)
        _remove_old(home.published, name)
    except OSError as error:
        raise HomeError(f"cannot publish in {home.published}: {error.strerror}") from error
    return Publication(name, sha256, data_date, n_models, n_edges, verdicts)


def open_published(home: Home) -> duckdb.DuckDBPyConnection:
    """Open the current publication after checking its digest: read-only, locked.

    Raises
    ------
    NotFoundError
        If nothing was published here.
    SchemaError
        If the manifest or the file cannot be trusted.
    """
    manifest = read_manifest(home)
    path = home.published / manifest.file
    if path.is_file() and _sha256(path) != manifest.sha256:
        raise SchemaError(
            f"the published file {manifest.file} is not what its manifest says (sha256 differs); "
            "run `herdbook publish` again"
        )
    return connect_publication(home, manifest)


# -- filling ------------------------------------------------------------------------------------


def _create(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        for table in PUBLISHED:
            connection.execute(table.ddl())


def _columns(name: str) -> str:
    table: Table = next(table for table in PUBLISHED if table.name == name)
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _fill(
    connection: duckdb.DuckDBPyConnection, edges: Sequence[Edge], with_claims: bool
) -> tuple[int, int]:
    """Copy what is current, then edges and models; returns the numbers of models and of edges."""
    for name, order in _COPIED_WHOLE.items():
        _copy(connection, name, name, order)
    _copy(connection, "trait", f"({CURRENT_TRAITS})", "repo_id")
    _copy(connection, "fingerprint", f"({CURRENT_FINGERPRINTS})", "repo_id")
    if with_claims:
        _copy(connection, "claim", f"({CURRENT_CLAIMS})", "child")
        _copy(connection, "recipe", f"({CURRENT_RECIPES})")
    current = "SELECT finding_id FROM finding WHERE valid_to IS NULL"
    for name in ("finding", "finding_parent", "finding_layer"):
        _copy(connection, name, f"(SELECT * FROM {name} WHERE finding_id IN ({current}))")
    _make_edges(connection, edges)
    n_plain = insert_plain_edges(connection) if with_claims else 0
    n_models = _insert_models(connection)
    _place_edges(connection)
    _place_files(connection)
    publish_edge_layers(connection)
    fill_licence_conflicts(connection)
    _index(connection)
    return n_models, len(edges) + n_plain


def _copy(
    connection: duckdb.DuckDBPyConnection, name: str, source: str, order: str = "ALL"
) -> None:
    # In order of the column that is asked for, so that a question reads a few blocks only.
    columns = _columns(name)
    connection.execute(
        f'INSERT INTO publication."{name}" ({columns}) SELECT {columns} FROM {source} '
        f"ORDER BY {order}"
    )


def _positions(edges: Sequence[Edge]) -> list[int]:
    """Place of each edge among those of its child."""
    count: dict[str, int] = {}
    positions = []
    for edge in edges:
        positions.append(count.get(edge.child, 0))
        count[edge.child] = positions[-1] + 1
    return positions


def _make_edges(connection: duckdb.DuckDBPyConnection, edges: Sequence[Edge]) -> None:
    """The temporary table ``made_edge``: edges without the places of their ends."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    table = pa.table(
        {
            "child": pa.array([edge.child for edge in edges], text),
            "parent": pa.array([edge.parent for edge in edges], text),
            "position": pa.array(_positions(edges), pa.int32()),
            "relation": pa.array([edge.relation for edge in edges], text),
            "kind": pa.array([edge.kind for edge in edges], text),
            "weight": pa.array([edge.weight for edge in edges], number),
            "verdict": pa.array([str(edge.verdict) for edge in edges], text),
            "grade": pa.array([str(edge.grade) for edge in edges], text),
            "p_value": pa.array([edge.p_value for edge in edges], number),
            "probability": pa.array([edge.probability for edge in edges], number),
            "evidence": pa.array([evidence_json(edge.evidence) for edge in edges], text),
        }
    )
    connection.register("new_edges", table)
    connection.execute("CREATE OR REPLACE TEMP TABLE made_edge AS FROM new_edges")
    connection.unregister("new_edges")


def _place_edges(connection: duckdb.DuckDBPyConnection) -> None:
    """Publish the edges in the order of their children's rows, with the rows of both ends."""
    connection.execute(
        f"INSERT INTO publication.edge ({_columns('edge')})"
        " SELECT made_edge.*, child.pos, parent.pos FROM made_edge"
        " LEFT JOIN publication.model AS child ON child.repo_id = made_edge.child"
        " LEFT JOIN publication.model AS parent ON parent.repo_id = made_edge.parent"
        " ORDER BY child.pos, made_edge.child, position"
    )
    connection.execute("DROP TABLE made_edge")


def _place_files(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        f"INSERT INTO publication.large_file ({_columns('large_file')})"
        " SELECT pos, path, file.size_bytes, sha256 FROM file"
        " JOIN publication.model USING (repo_id, revision)"
        " WHERE sha256 IS NOT NULL ORDER BY pos, path"
    )


def _graph(connection: duckdb.DuckDBPyConnection) -> tuple[pa.StringArray, LineageGraph]:
    """Every model in order of birth, and the published edges among them but contradicted ones."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE born AS SELECT repo_id, row_number() OVER "
        f"(ORDER BY created_at NULLS LAST, repo_id) - 1 AS i FROM ({LATEST})"
    )
    ids = connection.sql("SELECT repo_id FROM born ORDER BY i").to_arrow_table()
    drawn = connection.execute(
        "SELECT child.i AS child, parent.i AS parent, coalesce(weight, 'NaN') AS weight, position"
        " FROM made_edge JOIN born AS child ON child.repo_id = made_edge.child"
        " JOIN born AS parent ON parent.repo_id = made_edge.parent WHERE verdict <> ?",
        [str(Verdict.CONTRADICTED)],
    ).fetchnumpy()
    connection.execute("DROP TABLE born")
    names = ids.column("repo_id").combine_chunks()
    graph = LineageGraph.from_arrays(
        names.to_pylist(),
        np.asarray(drawn["child"], dtype=np.int64),
        np.asarray(drawn["parent"], dtype=np.int64),
        np.asarray(drawn["weight"], dtype=np.float64),
        np.asarray(drawn["position"], dtype=np.int64),
    )
    return names, graph


def _count_verdicts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT verdict, count(*) FROM publication.edge GROUP BY verdict ORDER BY verdict"
        ).fetchall()
    )


def _insert_models(connection: duckdb.DuckDBPyConnection) -> int:
    import pyarrow as pa

    ids, graph = _graph(connection)
    primary = np.where(graph.primary < 0, len(ids), graph.primary)
    named = pa.chunked_array([ids, pa.array([None], pa.string())]).combine_chunks()
    places = pa.table(
        {
            "repo_id": ids,
            "primary_parent": named.take(pa.array(primary)),
            "founder": ids.take(pa.array(graph.founder)),
            "generation": pa.array(graph.generation, pa.int32()),
            "n_parents": pa.array(graph.n_parents, pa.int32()),
            "n_children": pa.array(graph.n_children, pa.int32()),
            "n_descendants": pa.array(graph.n_descendants, pa.int32()),
            "pos": pa.array(graph.pos, pa.int32()),
            "size": pa.array(graph.size, pa.int32()),
        }
    )
    connection.register("places", places)
    connection.execute(
        f"""
        INSERT INTO publication.model BY NAME
        WITH latest AS ({LATEST}),
        said AS (SELECT child, count(DISTINCT parent_text)::INTEGER AS n_claims
                 FROM publication.claim GROUP BY child),
        problems AS (SELECT repo_id, count(*)::INTEGER AS n_problems
                     FROM publication.problem GROUP BY repo_id)
        SELECT latest.*, finding.kind, finding.grade, finding.note,
               places.* EXCLUDE (repo_id), coalesce(n_claims, 0) AS n_claims,
               coalesce(n_problems, 0) AS n_problems
        FROM latest JOIN places USING (repo_id)
        LEFT JOIN said ON said.child = latest.repo_id LEFT JOIN problems USING (repo_id)
        LEFT JOIN publication.finding ON finding.child = latest.repo_id
        ORDER BY places.pos
        """
    )
    connection.unregister("places")
    return len(ids)


def _index(connection: duckdb.DuckDBPyConnection) -> None:
    # Without an index a few rows cost all columns of the blocks that they lie in.
    for table in PUBLISHED:
        for column in table.looked_up:
            connection.execute(
                f'CREATE INDEX "{table.name}_{column}" ON publication."{table.name}" ("{column}")'
            )


def _write_meta(connection: duckdb.DuckDBPyConnection, lines: Mapping[str, str]) -> None:
    connection.executemany(
        "INSERT INTO publication.meta VALUES (?, ?)", [[key, lines[key]] for key in sorted(lines)]
    )


def _check(connection: duckdb.DuckDBPyConnection, n_models: int, n_edges: int) -> None:
    """Refuse a publication that is incomplete or cannot be drawn."""
    row = connection.execute(
        """
        SELECT (SELECT count(*) FROM publication.model),
               (SELECT count(DISTINCT (child, parent)) FROM publication.edge),
               (SELECT count(DISTINCT pos) FROM publication.model
                WHERE pos >= 0 AND pos < (SELECT count(*) FROM publication.model)),
               (SELECT count(*) FROM publication.model child
                JOIN publication.model parent ON parent.repo_id = child.primary_parent
                WHERE child.pos <= parent.pos OR child.pos + child.size > parent.pos + parent.size)
        """
    ).fetchone()
    if row != (n_models, n_edges, n_models, 0):
        raise SchemaError(
            f"the publication does not hold together (models, edges, rows, strays: {row}; "
            f"expected {n_models}, {n_edges}, {n_models}, 0); the last one stays"
        )


# -- files --------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_manifest(
    folder: Path,
    name: str,
    sha256: str,
    data_date: str,
    counts: Mapping[str, int],
    companions: Mapping[str, Companion],
) -> None:
    temporary = folder / ".manifest.json.part"
    fields = {
        "schema_version": SCHEMA_VERSION,
        "data_date": data_date,
        "sha256": sha256,
        "file": name,
        "herdbook_version": __version__,
        "counts": dict(counts),
        "companions": {role: asdict(companion) for role, companion in companions.items()},
    }
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(fields, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / "manifest.json")


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed publication left behind; the working database admits one writer."""
    for path in folder.glob(".herdbook-*.part*"):
        path.unlink(missing_ok=True)
    # A companion is named after its database; one without was left by a killed publication.
    whole = {path.stem for path in folder.glob("herdbook-*.duckdb")}
    for path in folder.glob("herdbook-*"):
        if path.name.split(".")[0] not in whole:
            path.unlink(missing_ok=True)


def _remove_old(folder: Path, current: str) -> None:
    """Keep the current publication and the one before it."""
    others = sorted(path for path in folder.glob("herdbook-*.duckdb") if path.name != current)
    for path in others[: -(_KEPT - 1)]:
        for file in folder.glob(f"{path.stem}.*"):
            file.unlink(missing_ok=True)
