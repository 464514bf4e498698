"""Reconcile what was said with what the weights show: claims and findings become edges.

One child at a time, after copies are grouped (a model and its duplicates and casts are one
*class*: weights can hardly tell its members apart, so a claim that names one names them all):

===================================================  =======================  ==================
the finding of the child                             the claim names          result
===================================================  =======================  ==================
parent P, proved or inferred                         P                        confirmed
parent P                                             a copy X of P            confirmed, edge to X
a tie of P, Q, …                                     one of the tied          confirmed, edge to it
a tie of P, Q, …                                     none of them             undeclared, edge to P
parent P                                             nothing                  undeclared
parent P                                             an ancestor of P         undeclared, with the
                                                                              claim as evidence
parent P                                             the base of the merge    the claim as evidence
parent P, proved or inferred, P a single parent      another readable model   edge to P undeclared,
                                                                              claim contradicted
parent P, or parents of a merge that replays         a model dated after the  claim unverified: a
                                                     child, or that only      date barred it, not
                                                     dates put below one of   the weights
                                                     its ancestors
parents P, Q of a merge that replays                 another readable model   claim contradicted
parents P, Q of a merge that replays                 its recipe's base only   claim unverified
parents P, Q of a merge that is only inferred        another relative         claim unverified
parent P, only inferred                              several, as a merge      claims unverified: a
                                                                              model stock of nearly
                                                                              orthogonal parents
                                                                              *is* nearly its base
any, or none                                         a model that the family  claim contradicted
                                                     test calls unrelated
parent P                                             a model that repeats P   claim unverified: it
                                                     in other codes, order    was not tried as a
                                                     or vocabulary            parent
parent P, of which the origin was left open          another readable model   claim unverified: it
                                                                              may stand above P
any                                                  a descendant             claim contradicted
none: abstained, not read, an adapter                any other                claim unverified
any                                                  a model not catalogued   claim unverified
                                                     or not read
===================================================  =======================  ==================

Naming the base of a family instead of the direct parent is a habit of cards and no untruth, hence
no contradiction; but the direct parent was left unsaid, hence "undeclared".

A claim that closes a circle is contradicted in any case, since the graph has none. Its evidence
tells whether findings made the rest of the circle (``own_descendant``), or other claims, ties, or
steps of which only dates tell the direction (``cycle``).

Contradicted edges are kept for the audit, with grade ``declared``; they are no part of the graph.
All others together contain no cycle: a finding that would close one over firmer findings makes no
edge (it stays in its own table), a claim that would is contradicted. Claims of a model about
itself make no edge, nor do claims whose words could not be resolved to a repository, nor findings
of the kind ``common_init``, which is not descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from crawler.records import Claim, ClaimSource
from lineage.infer.declared import Declared, declarations
from lineage.model import Edge, Evidence, Finding, Grade, Kind, ParentShare, Relation, Verdict

__all__ = ["generations", "in_graph", "reconcile", "remark_on", "tells_direction"]

Unrelated = Callable[[str, str], bool] | Collection[tuple[str, str]]
Dates = Mapping[str, datetime | None]

_FIRMNESS = {Grade.PROVED: 0, Grade.INFERRED: 1, Grade.TIE: 2}
_DECIDED = frozenset({Grade.PROVED, Grade.INFERRED})
_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST})
_REPEATS = frozenset({Kind.QUANTIZED, Kind.PERMUTED})
_DATED = frozenset({Kind.DUPLICATE, Kind.PERMUTED, Kind.LORA_MERGED})
"""Changes that read the same both ways: which came first is told by dates, not by weights."""
_DIRECTED = math.log(9)
"""Nine to one by weights alone: the least for a direction that does not rest on dates."""


def in_graph(edge: Edge) -> bool:
    """Whether `edge` is part of the graph (contradicted ones are kept for the audit only)."""
    return edge.verdict is not Verdict.CONTRADICTED


def reconcile(
    claims: Sequence[Claim],
    findings: Sequence[Finding],
    unrelated: Unrelated = frozenset(),
    dates: Dates = MappingProxyType({}),
) -> tuple[Edge, ...]:
    """Make the edges of the register.

    Parameters
    ----------
    claims
        What was said, any number of times, of any children. Empty: findings alone.
    findings
        What the weights show, one per child.
    unrelated
        Pairs that the family test calls unrelated: a function, or pairs ``(a, b)``, ``a < b``.
    dates
        Upload times, as the findings were made with. A claimed parent that is younger than its
        child may be an original uploaded again, which inference did not try.

    Returns
    -------
    tuple of Edge
        Sorted by child; within a child, graph edges first, the primary parent leading. At most
        one edge per child and parent.

    Raises
    ------
    ValueError
        If two findings speak of one child.

    Examples
    --------
    >>> from lineage.model import Finding, Grade, Kind, ParentShare
    >>> found = Finding("b", Kind.FINETUNE, Grade.INFERRED, (ParentShare("a", 1.0),))
    >>> [(edge.child, edge.parent, str(edge.verdict)) for edge in reconcile([], [found])]
    [('b', 'a', 'undeclared')]
    """
    by_child = {finding.child: finding for finding in findings}
    if len(by_child) != len(findings):
        raise ValueError("more than one finding for a child")
    said = declarations(claims)
    pedigree = _Pedigree(_copy_classes(findings))
    found = _found_edges(by_child, said, pedigree)
    return _Judge(by_child, found, pedigree, _as_test(unrelated), dates).edges(said)


# -- remarks ------------------------------------------------------------------------------------


def _remark(parent: str) -> str:
    return f"declared parent {parent} is "


def generations(n: int) -> str:
    """A number of generations in words."""
    return f"{n} generation" if n == 1 else f"{n} generations"


def remark_on(evidence: Iterable[Evidence], parent: str) -> Evidence | None:
    """What the evidence of a found edge says of a declared parent that made no edge.

    ``declared_ancestor`` (with the number of generations) or ``declared_base``; None: nothing.
    """
    return next((fact for fact in evidence if fact.text.startswith(_remark(parent))), None)


# -- the pedigree as it grows -------------------------------------------------------------------


@dataclass(slots=True)
class _Pedigree:
    """Graph edges made so far, and the classes of copies."""

    class_of: Mapping[str, str]
    parents: dict[str, list[str]] = field(default_factory=dict)

    def same(self, a: str, b: str) -> bool:
        return self.class_of.get(a, a) == self.class_of.get(b, b)

    def add(self, child: str, parent: str) -> None:
        self.parents.setdefault(child, []).append(parent)

    def closes_cycle(self, child: str, parent: str) -> bool:
        return child == parent or child in self.ancestors(parent)

    def ancestors(self, model: str) -> dict[str, int]:
        """Ancestors of `model` and how many edges away the nearest path to each is."""
        away: dict[str, int] = {}
        ring, distance = [model], 0
        while ring:
            distance += 1
            above = {parent for child in ring for parent in self.parents.get(child, ())}
            ring = sorted(above - away.keys() - {model})
            away.update(dict.fromkeys(ring, distance))
        return away

    def ancestor_like(self, model: str, wanted: str) -> int | None:
        """How many generations above `model` stands `wanted` or a copy of it."""
        steps = [n for name, n in self.ancestors(model).items() if self.same(name, wanted)]
        return min(steps, default=None)


def _copy_classes(findings: Iterable[Finding]) -> dict[str, str]:
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    for finding in sorted(findings, key=lambda one: one.child):
        if finding.kind in _COPIES and finding.grade is not Grade.ABSTAIN:
            for share in finding.parents:
                first, second = sorted((lead(finding.child), lead(share.parent)))
                leader.setdefault(first, first)
                leader[second] = first
    return {name: lead(name) for name in leader}


# -- findings -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A parent that the weights show; `declared` is the claim that agrees, if any."""

    share: ParentShare
    parent: str
    declared: Declared | None


def _found_edges(
    by_child: Mapping[str, Finding],
    said: Mapping[str, tuple[Declared, ...]],
    pedigree: _Pedigree,
) -> dict[str, list[_Found]]:
    """Edges that the findings make, firmest first, so that none of them closes a cycle."""
    found: dict[str, list[_Found]] = {}
    order = sorted(
        (one for one in by_child.values() if one.grade in _FIRMNESS),
        key=lambda one: (_FIRMNESS[one.grade], -(one.probability or 0.0), one.child),
    )
    for finding in order:
        if finding.kind is Kind.COMMON_INIT:
            continue
        for share in finding.parents:
            if not pedigree.closes_cycle(finding.child, share.parent):
                pedigree.add(finding.child, share.parent)
                found.setdefault(finding.child, []).append(_Found(share, share.parent, None))
    for child in sorted(found):
        found[child] = _named(by_child[child], found[child], said.get(child, ()), pedigree)
    return found


def _named(
    finding: Finding, found: list[_Found], declared: Sequence[Declared], pedigree: _Pedigree
) -> list[_Found]:
    """Let the claims name which of several indistinguishable models is the parent."""
    named: list[_Found] = []
    free = {one.parent: one for one in declared}
    for one in found:
        exact = free.pop(one.parent, None)
        if exact is not None:
            named.append(_Found(one.share, one.parent, exact))
            continue
        taken = {other.parent for other in found}
        match = next(
            (
                claim
                for name, claim in free.items()
                if name not in taken
                and (
                    pedigree.same(name, one.parent)
                    or (finding.grade is Grade.TIE and name in finding.ties)
                )
                and not pedigree.closes_cycle(finding.child, name)
            ),
            None,
        )
        if match is None:
            named.append(one)
            continue
        del free[match.parent]
        parents = pedigree.parents[finding.child]
        parents[parents.index(one.parent)] = match.parent
        named.append(_Found(one.share, match.parent, match))
    return named


# -- the verdicts -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Judge:
    by_child: Mapping[str, Finding]
    found: Mapping[str, list[_Found]]
    pedigree: _Pedigree
    unrelated: Callable[[str, str], bool]
    dates: Dates

    def edges(self, said: Mapping[str, tuple[Declared, ...]]) -> tuple[Edge, ...]:
        graph: dict[str, list[Edge]] = {}
        contradicted: dict[str, list[Edge]] = {}
        remarks: dict[str, list[tuple[str, Evidence]]] = {}
        # Firm sources first, so that of two claims that contradict each other the firmer stays.
        rest = sorted(
            (
                one
                for child, declared in said.items()
                for one in declared
                if all(other.declared is not one for other in self.found.get(child, ()))
            ),
            key=lambda one: (one.trust, one.child, one.parent),
        )
        for one in rest:
            verdict, reason = self._judge(one)
            if verdict is None:
                remarks.setdefault(one.child, []).append((one.parent, reason))
                continue
            if verdict is Verdict.UNVERIFIED:
                self.pedigree.add(one.child, one.parent)
            store = graph if verdict is Verdict.UNVERIFIED else contradicted
            store.setdefault(one.child, []).append(self._declared_edge(one, verdict, reason))
        made: list[Edge] = []
        for child in sorted({*self.found, *graph, *contradicted}):
            made += self._found_edges(child, remarks.get(child, []))
            made += graph.get(child, [])
            made += contradicted.get(child, [])
        return tuple(made)

    def _judge(self, one: Declared) -> tuple[Verdict | None, Evidence]:
        """Verdict on a claim that no finding confirms; None: evidence on the found edges."""
        finding = self.by_child.get(one.child)
        above = self.pedigree.ancestor_like(one.child, one.parent)
        if self.found.get(one.child) and above is not None:
            return None, Evidence(
                "declared_ancestor",
                float(above),
                f"{_remark(one.parent)}an ancestor, {generations(above)} above",
            )
        base = finding.base if finding is not None and self.found.get(one.child) else None
        if base is not None and self.pedigree.same(base, one.parent):
            return None, Evidence(
                "declared_base", 1.0, f"{_remark(one.parent)}the base of the merge"
            )
        if self.pedigree.closes_cycle(one.child, one.parent):
            return Verdict.CONTRADICTED, self._circle(one)
        if self.unrelated(one.child, one.parent):
            return Verdict.CONTRADICTED, Evidence(
                "unrelated", 1.0, f"the family test finds no kinship with {one.parent}"
            )
        if finding is None:
            return self._untold("the weights of the child were not read")
        other = self.by_child.get(one.parent)
        if other is None or other.kind is Kind.ADAPTER:
            return self._untold(f"the weights of {one.parent} were not read")
        repeated = self._repeated(one, other, finding)
        if repeated is not None:
            return self._untold(
                f"the weights show {repeated}, which {one.parent} repeats: it was not tried",
                "not_tried",
            )
        shares = self.found.get(one.child, [])
        if finding.kind is Kind.COMMON_INIT and any(
            self.pedigree.same(share.parent, one.parent) for share in finding.parents
        ):
            return Verdict.CONTRADICTED, Evidence(
                "common_init", 1.0, f"only the initialisation is shared with {one.parent}"
            )
        firm = finding.grade is Grade.PROVED or (
            finding.grade is Grade.INFERRED and len(shares) == 1 and one.relation != Relation.MERGE
        )
        if shares and firm:
            undecided = self._undecided_above(one.child)
            if undecided is not None:
                return self._untold(
                    f"the weights show {undecided}, but not what {undecided} comes from, "
                    f"which may be {one.parent}",
                    "open_above",
                )
            if one.is_base:
                return self._untold("the base of a merge need not leave a mark in it", "base")
            names = ", ".join(share.parent for share in shares)
            younger = self._dated_before(one)
            if younger is not None:
                return self._untold(
                    f"the weights show {names}, but {one.parent} is dated after {younger} and was "
                    "not tried as its parent",
                    "later_than_child",
                )
            return Verdict.CONTRADICTED, Evidence(
                "other_parent", float(len(shares)), f"the weights show {names} instead"
            )
        return self._untold("the weights could not decide")

    def _dated_before(self, one: Declared) -> str | None:
        """The child, or a found ancestor of it, that is too old for the declared parent, if any.

        The declared parent may be an original that was uploaded again: inference tries no parent
        that is dated after its child. Of the ancestors count those above which the declared parent
        would stand but for dates: no other witness directs a step between the two. Codes are
        replayed from every model, so a parent called quantised is judged by its ancestors alone.
        """
        turned = self._found_above(one.parent, lambda step: not tells_direction(step))
        above = self._found_above(one.child, lambda _: True)
        origin = self.dates.get(one.parent)
        is_replayed = self.by_child[one.child].kind is Kind.QUANTIZED and any(
            claim.relation == Relation.QUANTIZED and claim.source != ClaimSource.GGUF_METADATA
            for claim in one.claims
        )
        too_old = [name for name in above if name in turned]
        for name in too_old if is_replayed else [one.child, *too_old]:
            born = self.dates.get(name)
            if origin is not None and born is not None and born < origin:
                return name
        return None

    def _circle(self, one: Declared) -> Evidence:
        """Why a claim that closes a circle was refused: what the rest of the circle stands on."""
        above = self._found_above(one.parent, tells_direction)
        if one.child in above:
            return Evidence("own_descendant", 1.0, f"{one.parent} itself descends from {one.child}")
        return Evidence("cycle", 1.0, f"{one.parent} is itself said to descend from {one.child}")

    def _repeated(self, one: Declared, other: Finding, finding: Finding) -> str | None:
        """The model above the child that the declared parent repeats in another form, if any.

        Where a child descends from `other` or from what it repeats cannot be told: what says
        nothing new is left out when parents are sought. Codes and orders that replay do tell.
        """
        if other.kind is Kind.VOCABULARY:
            was_tried = other.grade is not Grade.PROVED  # then it was trained as well
        else:
            was_tried = other.kind not in _REPEATS or finding.grade is Grade.PROVED
        if was_tried or not other.parents:
            return None
        repeated = other.parents[0].parent
        above = self._found_above(one.child, lambda _: True)
        return repeated if any(self.pedigree.same(name, repeated) for name in above) else None

    def _undecided_above(self, child: str) -> str | None:
        """A model that the weights show above `child`, but whose own origin they left open."""
        for name in self._found_above(child, lambda _: True):
            finding = self.by_child.get(name)
            if finding is None or finding.grade not in _DECIDED:
                return name
        return None

    def _found_above(self, model: str, counts: Callable[[Finding], bool]) -> list[str]:
        """Ancestors of `model`, nearest first, over found edges of the findings that count."""
        above: dict[str, None] = {}
        ring = [model]
        while ring:
            found = [
                one.parent
                for name in ring
                if name in self.found and counts(self.by_child[name])
                for one in self.found[name]
            ]
            ring = [name for name in dict.fromkeys(found) if name not in above]
            above.update(dict.fromkeys(ring))
        return list(above)

    def _untold(self, why: str, name: str = "undecided") -> tuple[Verdict, Evidence]:
        return Verdict.UNVERIFIED, Evidence(name, 0.0, why)

    def _declared_edge(self, one: Declared, verdict: Verdict, reason: Evidence) -> Edge:
        return Edge(
            one.child,
            one.parent,
            one.relation or str(Relation.FINETUNE),
            None,
            one.weight,
            verdict,
            Grade.DECLARED,
            None,
            None,
            (one.evidence(), reason),
        )

    def _found_edges(self, child: str, remarks: Sequence[tuple[str, Evidence]]) -> list[Edge]:
        """Edges of a finding; a remark stands on those that lead to the ancestor it speaks of."""
        made = []
        found = self.found.get(child, [])
        told: dict[int, list[Evidence]] = {}
        for name, remark in remarks:
            places = [
                place
                for place, one in enumerate(found)
                if remark.name == "declared_ancestor"
                and self.pedigree.ancestor_like(one.parent, name) is not None
            ]
            for place in places or [0]:
                told.setdefault(place, []).append(remark)
        for place, one in enumerate(found):
            finding = self.by_child[child]
            evidence = list(finding.evidence)
            if one.declared is not None:
                evidence.append(one.declared.evidence())
            if one.parent != one.share.parent:
                evidence.append(
                    Evidence(
                        "equivalent",
                        1.0,
                        f"the weights show {one.share.parent}, which they cannot tell from "
                        f"the declared {one.parent}",
                    )
                )
            evidence += told.get(place, [])
            made.append(
                Edge(
                    child,
                    one.parent,
                    str(Relation.of(finding.kind)),
                    str(finding.kind),
                    one.share.weight,
                    Verdict.UNDECLARED if one.declared is None else Verdict.CONFIRMED,
                    finding.grade,
                    finding.p_value,
                    finding.probability,
                    tuple(evidence),
                )
            )
        return made


def tells_direction(finding: Finding) -> bool:
    """Whether the weights themselves say that the child came after its parents."""
    if finding.grade not in _DECIDED:
        return False
    for fact in finding.evidence:
        if fact.name == "direction_log_odds" and fact.value is not None:
            return fact.value >= _DIRECTED
    return finding.kind not in _DATED


def _as_test(unrelated: Unrelated) -> Callable[[str, str], bool]:
    if callable(unrelated):
        return unrelated
    pairs = unrelated

    def test(a: str, b: str) -> bool:
        return (min(a, b), max(a, b)) in pairs

    return test
