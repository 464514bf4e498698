"""Why a finding says what it says: computed again from the stored words of two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

import lineage
from lineage.errors import IncomparableError, NotFoundError, SchemaError
from lineage.infer.explanation import (
    Coefficients,
    Inherited,
    PairExplanation,
    Recheck,
    explain_pair,
    fit_parents,
    inherited_share,
    recheck_finding,
    recheck_pair,
)
from lineage.model import Finding, Kind
from lineage.pipeline.explain_report import ExplainReport, Link, Relationship, Side, is_step
from lineage.pipeline.inference_code import inference_code
from lineage.store import reads
from lineage.store.explained import (
    InferenceRun,
    finding_run,
    inference_run,
    known_models,
    latest_readings,
    n_tested_pairs,
    near_names,
    stored_pair,
)
from lineage.store.findings import current_findings
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.store.fingerprint_parts import Where, read_fingerprints
from lineage.store.home import Home
from lineage.weights.fingerprint import Fingerprint
from lineage.weights.probe import SCHEME

__all__ = ["explain"]

_NEAR = 5
_LONGEST_LINE = 64
"""Generations that are looked through for a common ancestor."""


def explain(home: Home, child: str, parent: str, *, parts: str | None = None) -> ExplainReport:
    """Explain what the weights of `child` and `parent` show of each other.

    Parameters
    ----------
    home
        Its stored words, findings and family tests are read; nothing is written, nobody is asked.
    child, parent
        Names of models of the home, also twice the same.
    parts
        Where the fingerprints are kept; default: in the home.

    Raises
    ------
    NotFoundError
        If nothing was crawled, or a model is unknown; names similar ones.
    IncomparableError
        If the two were last read under different schemes.
    SchemaError
        If stored words are missing or damaged, or the database is of an earlier herdbook.
    """
    connection = reads.open_for_reading(home)
    try:
        return _Case(connection, home, child, parent, parts or home.fingerprints).report()
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        raise SchemaError(
            f"{home.database} is of an earlier herdbook; run `herdbook infer --home {home.root}`"
        ) from error
    finally:
        connection.close()


class _Case:
    """One pair while it is being explained."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        home: Home,
        child: str,
        parent: str,
        where: Where,
    ) -> None:
        self._connection = connection
        self._where = where
        names = list(dict.fromkeys((child, parent)))
        self._known = known_models(connection, names)
        for name in names:
            if name not in self._known:
                near = near_names(connection, name, _NEAR)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise NotFoundError(f"no model {name} in {home.root}{hint}")
        self._child, self._parent = child, parent
        self._findings = {one.child: one for one in current_findings(connection, names)}
        self._link = _link(connection, child, parent, self._findings)

    def report(self) -> ExplainReport:
        finding = self._findings.get(self._child)
        wanted = [self._child, self._parent, *self._others(finding)]
        readings = latest_readings(self._connection, SCHEME, list(dict.fromkeys(wanted)))
        _require_one_scheme([readings.get(self._child), readings.get(self._parent)])
        members = self._members(readings)
        child, parent = members.get(self._child), members.get(self._parent)
        n_pairs = n_tested_pairs(self._connection)
        pair = None
        if child is not None and parent is not None:
            layers = finding.layer_map if finding is not None else ()
            pair = explain_pair(child, parent, n_pairs, layers)
        stored = stored_pair(self._connection, self._child, self._parent)
        pair_run = None if stored is None else inference_run(self._connection, stored[1])
        made_in = finding_run(self._connection, self._child)
        return ExplainReport(
            self._side(self._child, readings, child),
            self._side(self._parent, readings, parent),
            self._link,
            pair,
            n_pairs,
            self._coefficients(finding, members),
            self._inherited(finding, members),
            recheck_pair(stored[0], pair.test) if stored and pair else (),
            self._recheck_finding(finding, members),
            tuple(self._notes(readings, pair, stored is not None, pair_run)),
            pair_run,
            None if made_in is None else inference_run(self._connection, made_in),
        )

    def _others(self, finding: Finding | None) -> Iterator[str]:
        """Further models whose words are needed: all parents, and what a step is measured from."""
        if finding is None or not self._link.relationship.is_finding:
            return
        yield from (share.parent for share in finding.parents)
        reference = self._reference(finding)
        if reference is not None:
            yield reference

    def _reference(self, finding: Finding) -> str | None:
        """The parent of the parent, where a step of training is explained."""
        above = self._findings.get(self._parent)
        if not is_step(finding) or self._parent not in [one.parent for one in finding.parents]:
            return None
        if above is None or not above.parents:
            return None
        return above.parents[0].parent

    def _members(self, readings: dict[str, LedgerRow]) -> dict[str, Fingerprint]:
        scheme = readings[self._child].scheme if self._child in readings else SCHEME
        rows = [row for row in readings.values() if row.digest and row.scheme == scheme]
        return {one.repo_id: one for one in read_fingerprints(self._where, rows)}

    def _side(self, name: str, readings: dict[str, LedgerRow], read: Fingerprint | None) -> Side:
        status, created_at = self._known[name]
        row = readings.get(name)
        unread = None
        if read is None:
            unread = (row.reason if row else None) or (
                "herdbook has not read them yet" if status == "ok" else f"the model is {status}"
            )
        return Side(
            name,
            status,
            created_at,
            row,
            unread,
            read.dtype if read is not None else None,
            read.n_layers if read is not None else None,
            self._findings.get(name),
        )

    def _coefficients(
        self, finding: Finding | None, members: dict[str, Fingerprint]
    ) -> Coefficients | None:
        if finding is None or not self._link.relationship.is_finding:
            return None
        names = [share.parent for share in finding.parents]
        if finding.kind is not Kind.MERGE or len(names) < 2:
            return None
        if not members.keys() >= {self._child, *names}:
            return None
        return fit_parents(members[self._child], [members[name] for name in names])

    def _inherited(
        self, finding: Finding | None, members: dict[str, Fingerprint]
    ) -> Inherited | None:
        if finding is None or not self._link.relationship.is_finding:
            return None
        reference = self._reference(finding)
        if reference is None or not members.keys() >= {self._child, self._parent, reference}:
            return None
        return inherited_share(members[self._child], members[self._parent], members[reference])

    def _recheck_finding(
        self, finding: Finding | None, members: dict[str, Fingerprint]
    ) -> tuple[Recheck, ...]:
        if finding is None or not self._link.relationship.is_finding:
            return ()
        if not members.keys() >= {self._child, *(share.parent for share in finding.parents)}:
            return ()
        return recheck_finding(finding, members, n_tested_pairs(self._connection))

    def _notes(
        self,
        readings: dict[str, LedgerRow],
        pair: PairExplanation | None,
        is_stored: bool,
        run: InferenceRun | None,
    ) -> Iterator[str]:
        """What has changed since the inference."""
        if pair is not None and not is_stored and self._child != self._parent:
            yield "the latest inference did not test this pair; run `herdbook infer`"
        for name in dict.fromkeys((self._child, self._parent)):
            row = readings.get(name)
            if row is not None and row.digest and row.scheme != SCHEME:
                yield (
                    f"{name} was read under the scheme {row.scheme}, not {SCHEME}; "
                    "run `herdbook fingerprint`"
                )
            if row is not None and run is not None and row.made_at > run.started_at:
                yield (
                    f"the weights of {name} were read again after the inference; "
                    "run `herdbook infer`"
                )
        if run is not None and run.scheme not in (None, SCHEME):
            yield f"inferred under the scheme {run.scheme}, not {SCHEME}; run `herdbook infer`"
        if run is not None and run.version != lineage.__version__:
            yield f"inferred by herdbook {run.version}; this is {lineage.__version__}"
        elif run is not None and run.code != inference_code():
            yield (
                "inferred by other code of the same version"
                if run.code
                else "the inference did not record its code"
            )


def _require_one_scheme(readings: Sequence[LedgerRow | None]) -> None:
    read = [row for row in readings if row is not None and row.digest]
    if len({row.scheme for row in read}) > 1:
        told = " and ".join(f"{row.repo_id} under {row.scheme}" for row in read)
        raise IncomparableError(
            f"read under different schemes: {told}; run `herdbook fingerprint` again"
        )


# -- how two models are linked ------------------------------------------------------------------


def _link(
    connection: duckdb.DuckDBPyConnection,
    child: str,
    parent: str,
    findings: dict[str, Finding],
) -> Link:
    """The closest link; `findings` gains those of all ancestors that were looked at."""
    if child == parent:
        return Link(Relationship.ITSELF)
    for one, other, relationship in (
        (child, parent, Relationship.PARENT),
        (parent, child, Relationship.CHILD),
    ):
        finding = findings.get(one)
        if finding is not None and other in (share.parent for share in finding.parents):
            tie = relationship is Relationship.PARENT and other in finding.ties
            path = (one, other)
            return Link(
                Relationship.TIE if tie else relationship,
                path if one == child else (),
                () if one == child else path,
            )
    finding = findings.get(child)
    if finding is not None and parent in finding.ties:
        return Link(Relationship.TIE)
    if finding is not None and finding.base == parent:
        return Link(Relationship.BASE)
    up, other_up = (_lines_up(connection, name, findings) for name in (child, parent))
    if parent in up:
        return Link(Relationship.ANCESTOR, up[parent])
    if child in other_up:
        return Link(Relationship.DESCENDANT, (), other_up[child])
    shared = [name for name in up if name in other_up]
    if not shared:
        return Link(Relationship.NONE)
    nearest = min(shared, key=lambda name: (len(up[name]) + len(other_up[name]), name))
    return Link(Relationship.COMMON_ANCESTOR, up[nearest], other_up[nearest])


def _lines_up(
    connection: duckdb.DuckDBPyConnection, start: str, findings: dict[str, Finding]
) -> dict[str, tuple[str, ...]]:
    """A shortest line from `start` to each of its ancestors, by ancestor."""
    lines: dict[str, tuple[str, ...]] = {start: (start,)}
    frontier = [start]
    for _ in range(_LONGEST_LINE):
        unknown = [name for name in frontier if name not in findings]
        if unknown:
            findings.update((one.child, one) for one in current_findings(connection, unknown))
        above: list[str] = []
        for name in frontier:
            finding = findings.get(name)
            for share in finding.parents if finding is not None else ():
                if share.parent not in lines:
                    lines[share.parent] = (*lines[name], share.parent)
                    above.append(share.parent)
        if not above:
            break
        frontier = above
    return lines
