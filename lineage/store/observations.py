"""Writes and reads what was seen on the Hub: observations, files, cards, claims, problems.

Everything of one repository is written in one transaction, so that a kill leaves it whole or
absent. Text from strangers reaches SQL as bound parameters only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb

from crawler.configs import architecture_of, load_json_object
from crawler.errors import (
    MalformedError,
    RateLimitedError,
    RetryableError,
    ServerError,
    TruncatedError,
)
from crawler.listing import ListedRepo
from crawler.records import (
    Claim,
    ClaimSource,
    EvalResult,
    FileEntry,
    RepoRef,
    RepoSnapshot,
    RepoStatus,
)
from crawler.snapshot import RepoReading

__all__ = [
    "NO_COMMIT",
    "KnownRepo",
    "clear_problems",
    "confirm_snapshots",
    "current_claims",
    "known_repositories",
    "latest_snapshots",
    "mark_gone",
    "record_problem",
    "record_status",
    "write_reading",
    "write_snapshot",
]

NO_COMMIT = "0" * 40
"""Stands where no commit is known; NULL in the database."""

_RETRYABLE = [
    error.code for error in (RetryableError, RateLimitedError, ServerError, TruncatedError)
]


@dataclass(frozen=True, slots=True)
class KnownRepo:
    """What the latest observations say of one repository.

    `revision` and `last_modified` are those of the latest time it could be read, None when it
    never was. `is_incomplete`: a part of it could not be read then, and may be now.
    """

    repo_id: str
    revision: str | None
    last_modified: datetime | None
    status: RepoStatus
    observed_at: datetime
    is_incomplete: bool


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def write_snapshot(
    connection: duckdb.DuckDBPyConnection, snapshot: RepoSnapshot, claims: Sequence[Claim]
) -> None:
    """Keep one observation of one repository and what it claims.

    A claim that is known already is only seen once more. Problems of earlier crawls are forgotten.
    """
    write_reading(connection, RepoReading(snapshot, tuple(claims), ()))


def write_reading(connection: duckdb.DuckDBPyConnection, reading: RepoReading) -> None:
    """Keep all that one repository said, and what could not be read, in one transaction.

    A commit of forty zeros means that none is known: no files, claims or traits are kept then.
    """
    snapshot = reading.snapshot
    repo_id, now = snapshot.ref.repo_id, snapshot.observed_at
    revision = None if snapshot.ref.revision == NO_COMMIT else snapshot.ref.revision
    with _transaction(connection):
        _insert_observation(connection, reading, revision)
        if revision is not None:
            _insert_files(connection, repo_id, revision, snapshot.files)
            connection.execute(
                "INSERT OR REPLACE INTO card VALUES (?, ?, ?, ?)",
                [repo_id, revision, snapshot.card_text, snapshot.config_text],
            )
            _insert_claims(connection, reading.claims)
            _insert_traits(connection, repo_id, revision, snapshot.evaluations, now)
        clear_problems(connection, repo_id, "crawl")
        for problem in reading.problems:
            record_problem(
                connection, repo_id, revision, "crawl", problem.path, problem.code,
                problem.reason, now,
            )  # fmt: skip


def _insert_observation(
    connection: duckdb.DuckDBPyConnection, reading: RepoReading, revision: str | None
) -> None:
    snapshot = reading.snapshot
    connection.execute(
        "INSERT INTO snapshot (repo_id, revision, observed_at, status, author, created_at,"
        " last_modified, downloads_30d, likes, licence, library, pipeline_tag, tags,"
        " architecture, parameters, dtype, size_bytes, n_files)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            snapshot.ref.repo_id,
            revision,
            snapshot.observed_at,
            str(snapshot.status),
            snapshot.author,
            snapshot.created_at,
            snapshot.last_modified,
            snapshot.downloads_30d,
            snapshot.likes,
            snapshot.licence,
            snapshot.library,
            snapshot.pipeline_tag,
            list(snapshot.tags),
            reading.architecture or _architecture(snapshot.config_text),
            reading.parameters,
            reading.dtype,
            sum(file.size_bytes for file in snapshot.files),
            len(snapshot.files),
        ],
    )


def _architecture(config_text: str | None) -> str | None:
    if config_text is None:
        return None
    try:
        return architecture_of(load_json_object(config_text, "config.json"))
    except MalformedError:
        return None  # its reason stands among the problems of whoever read it


def _insert_files(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    revision: str,
    files: Iterable[FileEntry],
) -> None:
    distinct = list({file.path: file for file in files}.values())
    if distinct:
        connection.execute(
            "INSERT OR REPLACE INTO file SELECT $1, $2, unnest($3::VARCHAR[]),"
            " unnest($4::BIGINT[]), unnest($5::VARCHAR[])",
            [
                repo_id,
                revision,
                [file.path for file in distinct],
                [file.size_bytes for file in distinct],
                [file.sha256 for file in distinct],
            ],
        )


_NEW_CLAIMS = """
    SELECT unnest($1::VARCHAR[]) AS child, unnest($2::VARCHAR[]) AS parent,
      unnest($3::VARCHAR[]) AS parent_text, unnest($4::VARCHAR[]) AS relation,
      unnest($5::VARCHAR[]) AS source, unnest($6::VARCHAR[]) AS text,
      unnest($7::DOUBLE[]) AS weight, unnest($8::VARCHAR[]) AS method,
      unnest($9::VARCHAR[]) AS revision, unnest($10::TIMESTAMPTZ[]) AS seen
"""
_SAME_CLAIM = """
    claim.child = new.child AND claim.parent_text = new.parent_text AND claim.source = new.source
    AND claim.relation IS NOT DISTINCT FROM new.relation
    AND claim.parent IS NOT DISTINCT FROM new.parent
    AND claim.weight IS NOT DISTINCT FROM new.weight
    AND claim.method IS NOT DISTINCT FROM new.method
"""


def _insert_claims(connection: duckdb.DuckDBPyConnection, claims: Sequence[Claim]) -> None:
    """Add the claims that are new and renew the others; a changed weight is a new claim."""
    distinct: dict[tuple[str, str, str | None, str], Claim] = {}
    for claim in claims:
        key = (claim.child, claim.parent_text, claim.relation, str(claim.source))
        distinct.setdefault(key, claim)
    if not distinct:
        return
    rows = list(distinct.values())
    columns = [
        [claim.child for claim in rows],
        [claim.parent for claim in rows],
        [claim.parent_text for claim in rows],
        [claim.relation for claim in rows],
        [str(claim.source) for claim in rows],
        [claim.text for claim in rows],
        [claim.weight for claim in rows],
        [claim.method for claim in rows],
        [claim.revision for claim in rows],
        [claim.observed_at for claim in rows],
    ]
    connection.execute(
        f"UPDATE claim SET last_seen = greatest(claim.last_seen, new.seen),"
        f" revision = new.revision FROM ({_NEW_CLAIMS}) AS new WHERE {_SAME_CLAIM}",
        columns,
    )
    connection.execute(
        "INSERT INTO claim (child, parent, parent_text, relation, source, text, weight, method,"
        " revision, first_seen, last_seen)"
        f" SELECT child, parent, parent_text, relation, source, text, weight, method, revision,"
        f" seen, seen FROM ({_NEW_CLAIMS}) AS new"
        f" WHERE NOT EXISTS (SELECT 1 FROM claim WHERE {_SAME_CLAIM})",
        columns,
    )


def _insert_traits(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    revision: str,
    evaluations: Sequence[EvalResult],
    now: datetime,
) -> None:
    # What a commit states cannot change, but how it is read can: the latest reading counts.
    connection.execute(
        "DELETE FROM trait WHERE repo_id = ? AND revision = ? AND source = 'card'",
        [repo_id, revision],
    )
    if evaluations:
        connection.execute(
            "INSERT INTO trait SELECT $1, unnest($2::VARCHAR[]), unnest($3::DOUBLE[]),"
            " unnest($4::VARCHAR[]), unnest($5::VARCHAR[]), unnest($6::BOOLEAN[]), 'card', $7, $8",
            [
                repo_id,
                [result.name for result in evaluations],
                [result.value for result in evaluations],
                [result.metric for result in evaluations],
                [result.dataset for result in evaluations],
                [result.higher_is_better for result in evaluations],
                revision,
                now,
            ],
        )


def confirm_snapshots(
    connection: duckdb.DuckDBPyConnection, seen: Sequence[ListedRepo], now: datetime
) -> None:
    """Keep an observation of repositories that a listing shows unchanged, in one transaction.

    Counts are new; the rest is repeated from the latest readable observation, whose claims are
    thereby seen once more.
    """
    if not seen:
        return
    ids = [row.repo_id for row in seen]
    with _transaction(connection):
        connection.execute(
            "UPDATE claim SET last_seen = $2 FROM (SELECT repo_id, max(observed_at) AS read_at"
            " FROM snapshot WHERE revision IS NOT NULL"
            " AND repo_id IN (SELECT unnest($1::VARCHAR[])) GROUP BY repo_id) AS latest"
            " WHERE child = latest.repo_id AND last_seen >= read_at",
            [ids, now],
        )
        connection.execute(
            "INSERT INTO snapshot SELECT latest.* REPLACE ($4 AS observed_at,"
            " new.downloads AS downloads_30d, new.liked AS likes)"
            " FROM (SELECT unnest($1::VARCHAR[]) AS id, unnest($2::BIGINT[]) AS downloads,"
            " unnest($3::BIGINT[]) AS liked) AS new"
            " JOIN (SELECT * FROM snapshot WHERE revision IS NOT NULL"
            " AND repo_id IN (SELECT unnest($1::VARCHAR[]))"
            " QUALIFY row_number() OVER (PARTITION BY repo_id ORDER BY observed_at DESC) = 1)"
            " AS latest ON latest.repo_id = new.id",
            [ids, [row.downloads_30d for row in seen], [row.likes for row in seen], now],
        )


def record_status(
    connection: duckdb.DuckDBPyConnection, repo_id: str, status: RepoStatus, now: datetime
) -> None:
    """Observe that a repository cannot be read now; the same status again adds nothing."""
    row = connection.execute(
        "SELECT arg_max(status, observed_at) FROM snapshot WHERE repo_id = ?", [repo_id]
    ).fetchone()
    if row is None or row[0] != status:
        connection.execute(
            "INSERT INTO snapshot (repo_id, observed_at, status) VALUES (?, ?, ?)",
            [repo_id, now, str(status)],
        )


def mark_gone(connection: duckdb.DuckDBPyConnection, repo_id: str, now: datetime) -> None:
    """Observe that a repository is no longer there; once is enough."""
    record_status(connection, repo_id, RepoStatus.GONE, now)


def record_problem(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    revision: str | None,
    stage: str,
    path: str | None,
    code: str,
    reason: str,
    now: datetime,
) -> None:
    """Record why something could not be read; the same problem is kept once, with its latest time.

    Problems are the same when repository, stage, path, code and reason are.
    """
    connection.execute(
        "DELETE FROM problem WHERE repo_id = ? AND stage = ? AND path IS NOT DISTINCT FROM ?"
        " AND code = ? AND reason = ?",
        [repo_id, stage, path, code, reason],
    )
    connection.execute(
        "INSERT INTO problem VALUES (?, ?, ?, ?, ?, ?, ?)",
        [repo_id, revision, stage, path, code, reason, now],
    )


def clear_problems(connection: duckdb.DuckDBPyConnection, repo_id: str, stage: str) -> None:
    """Forget a stage's problems with a repository, which is about to be tried again."""
    connection.execute("DELETE FROM problem WHERE repo_id = ? AND stage = ?", [repo_id, stage])


def known_repositories(connection: duckdb.DuckDBPyConnection) -> Mapping[str, KnownRepo]:
    """Every repository that was ever observed, by id."""
    rows = connection.execute(
        "SELECT repo_id, arg_max(revision, observed_at),"
        " arg_max(last_modified, observed_at) FILTER (revision IS NOT NULL),"
        " arg_max(status, observed_at), max(observed_at), repo_id IN (SELECT repo_id FROM problem"
        " WHERE stage = 'crawl' AND code IN (SELECT unnest($1::VARCHAR[])))"
        " FROM snapshot GROUP BY repo_id ORDER BY repo_id",
        [_RETRYABLE],
    ).fetchall()
    return {
        repo_id: KnownRepo(repo_id, revision, modified, RepoStatus(status), seen, incomplete)
        for repo_id, revision, modified, status, seen, incomplete in rows
    }


def latest_snapshots(connection: duckdb.DuckDBPyConnection) -> tuple[RepoSnapshot, ...]:
    """The latest observation of every repository, in order of its id.

    A repository that is gone or disabled has its latest status and time, and everything else as
    it was when it could last be read; one that never could be has the commit of forty zeros.
    """
    rows = connection.execute(
        "WITH latest AS (SELECT repo_id, max(observed_at) AS seen_at,"
        " arg_max(status, observed_at) AS seen_status FROM snapshot GROUP BY repo_id),"
        " readable AS (SELECT * FROM snapshot QUALIFY row_number() OVER (PARTITION BY repo_id"
        " ORDER BY revision IS NOT NULL DESC, observed_at DESC) = 1)"
        " SELECT repo_id, s.revision, seen_at, seen_status, author, created_at, last_modified,"
        " downloads_30d, likes, licence, library, pipeline_tag, tags, card_text, config_text"
        " FROM latest JOIN readable AS s USING (repo_id)"
        " LEFT JOIN card USING (repo_id, revision) ORDER BY repo_id"
    ).fetchall()
    files = _files_of_latest(connection)
    traits = _traits_of_latest(connection)
    return tuple(
        RepoSnapshot(
            RepoRef(repo_id, revision or NO_COMMIT),
            seen_at,
            RepoStatus(status),
            author,
            created_at,
            last_modified,
            downloads_30d,
            likes,
            licence,
            library,
            pipeline_tag,
            tuple(tags or ()),
            tuple(files.get((repo_id, revision), ())),
            card_text,
            config_text,
            tuple(traits.get((repo_id, revision), ())),
        )
        for (
            repo_id, revision, seen_at, status, author, created_at, last_modified, downloads_30d,
            likes, licence, library, pipeline_tag, tags, card_text, config_text,
        ) in rows
    )  # fmt: skip


_LATEST_REVISIONS = (
    "(SELECT repo_id, arg_max(revision, observed_at) AS revision FROM snapshot GROUP BY repo_id)"
)


def _files_of_latest(
    connection: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, str], list[FileEntry]]:
    found: dict[tuple[str, str], list[FileEntry]] = {}
    for repo_id, revision, path, size_bytes, sha256 in connection.execute(
        f"SELECT repo_id, revision, path, size_bytes, sha256 FROM file"
        f" JOIN {_LATEST_REVISIONS} USING (repo_id, revision) ORDER BY repo_id, path"
    ).fetchall():
        found.setdefault((repo_id, revision), []).append(FileEntry(path, size_bytes, sha256))
    return found


def _traits_of_latest(
    connection: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, str], list[EvalResult]]:
    found: dict[tuple[str, str], list[EvalResult]] = {}
    for repo_id, revision, *fields in connection.execute(
        f"SELECT repo_id, revision, name, value, metric, dataset, higher_is_better FROM trait"
        f" JOIN {_LATEST_REVISIONS} USING (repo_id, revision) ORDER BY repo_id, name"
    ).fetchall():
        found.setdefault((repo_id, revision), []).append(EvalResult(*fields))
    return found


def current_claims(connection: duckdb.DuckDBPyConnection) -> tuple[Claim, ...]:
    """Claims that still stood when their child was last read, in order of child and source."""
    rows = connection.execute(
        "SELECT child, parent, parent_text, relation, source, text, revision, last_seen, weight,"
        " method FROM claim JOIN (SELECT repo_id, max(observed_at) AS read_at FROM snapshot"
        " WHERE revision IS NOT NULL GROUP BY repo_id) ON repo_id = child"
        " WHERE last_seen >= read_at ORDER BY child, source, parent_text"
    ).fetchall()
    return tuple(
        Claim(
            child, parent, written, relation, ClaimSource(source), text, revision, seen, weight,
            method,
        )
        for child, parent, written, relation, source, text, revision, seen, weight, method in rows
    )  # fmt: skip
