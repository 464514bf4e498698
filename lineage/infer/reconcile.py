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
parents P, Q of a merge that replays                 another readable model   claim contradicted
parents P, Q of a merge that is only inferred        another relative         claim unverified
parent P, only inferred                              several, as a merge      claims unverified: a
                                                                              model stock of nearly
                                                                              orthogonal parents
                                                                              *is* nearly its base
any, or none                                         a model that the family  claim contradicted
                                                     test calls unrelated
any                                                  a descendant             claim contradicted
none: abstained, not read, an adapter                any other                claim unverified
any                                                  a model not catalogued   claim unverified
                                                     or not read
===================================================  =======================  ==================

Naming the base of a family instead of the direct parent is a habit of cards and no untruth, hence
no contradiction; but the direct parent was left unsaid, hence "undeclared".

Contradicted edges are kept for the audit, with grade ``declared``; they are no part of the graph.
All others together contain no cycle: a finding that would close one over firmer findings makes no
edge (it stays in its own table), a claim that would is contradicted. Claims of a model about
itself make no edge, nor do claims whose words could not be resolved to a repository, nor findings
of the kind ``common_init``, which is not descent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crawler.records import Claim, ClaimSource
from lineage.model import Edge, Evidence, Finding, Grade, Kind, ParentShare, Relation, Verdict

__all__ = ["in_graph", "reconcile"]

Unrelated = Callable[[str, str], bool] | Collection[tuple[str, str]]

_TRUST = {source: place for place, source in enumerate(ClaimSource)}
_FIRMNESS = {Grade.PROVED: 0, Grade.INFERRED: 1, Grade.TIE: 2}
_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST})
_LONGEST_QUOTE = 200


def in_graph(edge: Edge) -> bool:
    """Whether `edge` is part of the graph (contradicted ones are kept for the audit only)."""
    return edge.verdict is not Verdict.CONTRADICTED


def reconcile(
    claims: Sequence[Claim],
    findings: Sequence[Finding],
    unrelated: Unrelated = frozenset(),
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
    said = _declarations(claims)
    pedigree = _Pedigree(_copy_classes(findings))
    found = _found_edges(by_child, said, pedigree)
    return _Judge(by_child, found, pedigree, _as_test(unrelated)).edges(said)


# -- claims -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Declared:
    """Everything that was said about one parent of one child, the most trusted source leading."""

    child: str
    parent: str
    claims: tuple[Claim, ...]

    @property
    def trust(self) -> int:
        return _TRUST[self.claims[0].source]

    @property
    def relation(self) -> str | None:
        return next((claim.relation for claim in self.claims if claim.relation), None)

    @property
    def weight(self) -> float | None:
        return next((claim.weight for claim in self.claims if claim.weight is not None), None)

    def evidence(self) -> Evidence:
        claim = self.claims[0]
        words = " ".join(claim.text.split())[:_LONGEST_QUOTE]
        source = str(claim.source).replace("_", " ")
        return Evidence("claim", float(len(self.claims)), f"declared by {source}: {words}")


def _declarations(claims: Iterable[Claim]) -> dict[str, tuple[_Declared, ...]]:
    grouped: dict[str, dict[str, list[Claim]]] = {}
    for claim in claims:
        if claim.parent is not None and claim.parent != claim.child:
            grouped.setdefault(claim.child, {}).setdefault(claim.parent, []).append(claim)
    said = {}
    for child in sorted(grouped):
        declared = [
            _Declared(
                child, parent, tuple(sorted(group, key=lambda one: (_TRUST[one.source], one.text)))
            )
            for parent, group in grouped[child].items()
        ]
        said[child] = tuple(
            sorted(declared, key=lambda one: (one.trust, -(one.weight or 0.0), one.parent))
        )
    return said


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
    declared: _Declared | None


def _found_edges(
    by_child: Mapping[str, Finding],
    said: Mapping[str, tuple[_Declared, ...]],
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
    finding: Finding, found: list[_Found], declared: Sequence[_Declared], pedigree: _Pedigree
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

    def edges(self, said: Mapping[str, tuple[_Declared, ...]]) -> tuple[Edge, ...]:
        graph: dict[str, list[Edge]] = {}
        contradicted: dict[str, list[Edge]] = {}
        remarks: dict[str, list[Evidence]] = {}
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
                remarks.setdefault(one.child, []).append(reason)
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

    def _judge(self, one: _Declared) -> tuple[Verdict | None, Evidence]:
        """Verdict on a claim that no finding confirms; None: evidence on the found edges."""
        finding = self.by_child.get(one.child)
        above = self.pedigree.ancestor_like(one.child, one.parent)
        if self.found.get(one.child) and above is not None:
            return None, Evidence(
                "declared_ancestor",
                float(above),
                f"declared parent {one.parent} is an ancestor, {above} generations above",
            )
        base = finding.base if finding is not None and self.found.get(one.child) else None
        if base is not None and self.pedigree.same(base, one.parent):
            return None, Evidence(
                "declared_base", 1.0, f"declared parent {one.parent} is the base of the merge"
            )
        if self.pedigree.closes_cycle(one.child, one.parent):
            return Verdict.CONTRADICTED, Evidence(
                "cycle", 1.0, f"{one.parent} itself descends from {one.child}"
            )
        if self.unrelated(one.child, one.parent):
            return Verdict.CONTRADICTED, Evidence(
                "unrelated", 1.0, f"the family test finds no kinship with {one.parent}"
            )
        if finding is None:
            return self._untold("the weights of the child were not read")
        other = self.by_child.get(one.parent)
        if other is None or other.kind is Kind.ADAPTER:
            return self._untold(f"the weights of {one.parent} were not read")
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
            names = ", ".join(share.parent for share in shares)
            return Verdict.CONTRADICTED, Evidence(
                "other_parent", float(len(shares)), f"the weights show {names} instead"
            )
        return self._untold("the weights could not decide")

    def _untold(self, why: str) -> tuple[Verdict, Evidence]:
        return Verdict.UNVERIFIED, Evidence("undecided", 0.0, why)

    def _declared_edge(self, one: _Declared, verdict: Verdict, reason: Evidence) -> Edge:
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

    def _found_edges(self, child: str, remarks: Sequence[Evidence]) -> list[Edge]:
        made = []
        for place, one in enumerate(self.found.get(child, [])):
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
            if place == 0:
                evidence += remarks
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


def _as_test(unrelated: Unrelated) -> Callable[[str, str], bool]:
    if callable(unrelated):
        return unrelated
    pairs = unrelated

    def test(a: str, b: str) -> bool:
        return (min(a, b), max(a, b)) in pairs

    return test
