"""Families of thousands: resolved neighbourhood by neighbourhood.

What is asked of a family grows with the square or the cube of its size. A large one is cut into
neighbourhoods of bounded size: each has models of its own, near each other, whose findings are
kept, and company that is only asked: the *elders*, nearest to most of the family and so its likely
founders, and whoever stands on most lists of the neighbourhood's own models. So the work and the
memory grow with the number of models, and a parent that is nobody's near neighbour may be missed:
the findings say so.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from lineage.infer.settle.family import OpenFamily, birth
from lineage.model import Finding, Grade, Kind

__all__ = [
    "MAX_WHOLE",
    "Neighbourhood",
    "Shortlists",
    "neighbourhoods",
    "part_of",
    "settle_by_neighbourhood",
]

MAX_WHOLE = 300
"""Models of one family that are resolved at once."""
_SIZE = 64
"""Models of one neighbourhood."""
_OWN = 32
_N_ELDERS = 12
_N_OLDEST = 4
_CITED_TO = 10
"""Places of a list that count when elders are chosen."""

Shortlists = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Neighbourhood:
    """Models to be resolved together: those whose findings count, and those that are only asked."""

    own: tuple[str, ...]
    company: tuple[str, ...]


def part_of(family: OpenFamily, names: Sequence[str]) -> OpenFamily:
    """Some members of a family with what is settled of them."""
    return OpenFamily(
        {name: family.members[name] for name in names},
        family.dates,
        family.likes,
        family.p_values,
        {name: family.findings[name] for name in names if name in family.findings},
    )


def neighbourhoods(
    names: Sequence[str],
    shortlists: Shortlists,
    age: Callable[[str], object] = lambda name: name,
) -> list[Neighbourhood]:
    """Cut a family into neighbourhoods.

    Parameters
    ----------
    names
        All models to be resolved.
    shortlists
        For each its candidates, the likeliest first; others than `names` are passed over.
    age
        Sorts models from the oldest; of equally good elders the older are taken.

    Returns
    -------
    list of Neighbourhood
        Every model is in the own part of exactly one; the elders are in that of the first.
    """
    inside = set(names)
    lists = {name: [o for o in shortlists.get(name, ()) if o in inside] for name in names}
    cited = Counter(other for some in lists.values() for other in some[:_CITED_TO])
    by_citation = sorted(names, key=lambda name: (-cited[name], age(name), name))
    by_age = sorted(names, key=lambda name: (age(name), name))
    elders = list(dict.fromkeys([*by_citation[: _N_ELDERS - _N_OLDEST], *by_age[:_N_OLDEST]]))
    found = []
    for own in _clusters([*elders, *by_citation], lists):
        votes: defaultdict[str, float] = defaultdict(float)
        for name in own:
            for place, other in enumerate(lists[name]):
                votes[other] += 1 / (1 + place)
        wanted = sorted(votes, key=lambda name: (-votes[name], name))
        company = dict.fromkeys([*elders, *wanted])
        others = [name for name in company if name not in set(own)]
        found.append(Neighbourhood(tuple(own), tuple(others[: _SIZE - len(own)])))
    return found


def _clusters(ordered: Sequence[str], lists: Shortlists) -> Iterator[list[str]]:
    """Every model once, with its neighbours as far as there is room, breadth first."""
    free = dict.fromkeys(ordered)
    while free:
        own: list[str] = []
        waiting: deque[str] = deque()
        while free and len(own) < _OWN:
            if not waiting:
                waiting.append(next(iter(free)))
            name = waiting.popleft()
            if name not in free:
                continue
            del free[name]
            own.append(name)
            waiting.extend(other for other in lists[name] if other in free)
        yield own


def settle_by_neighbourhood(
    family: OpenFamily, shortlists: Shortlists, settle: Callable[[OpenFamily], None]
) -> None:
    """Settle the open models of a large family, one neighbourhood after the other.

    Parameters
    ----------
    settle
        Settles all open models of a small family.
    """
    names = family.open_models()
    # Company is open in every neighbourhood: a founder that was settled before could found nothing.
    before = part_of(family, list(family.members))
    cut = neighbourhoods(names, shortlists, lambda name: birth(family.dates, name))
    for number, one in enumerate(cut):
        few = part_of(before, [*one.own, *one.company])
        settle(few)
        for name in one.own:
            size = len(one.own) + len(one.company)
            family.settle(_seen_from(few.findings[name], number == 0, size, len(names)))
    _break_cycles(family)


def _seen_from(finding: Finding, is_first: bool, n_seen: int, n_all: int) -> Finding:
    """A finding with a word on how little was looked at; proofs need none."""
    if finding.grade is Grade.PROVED:
        return finding
    note = f"only the {n_seen} nearest of {n_all} relatives were looked at"
    if finding.kind is Kind.FOUNDER and not is_first:
        # The elders are in the first neighbourhood: who seems to found another has lost its parent.
        return replace(finding, grade=Grade.ABSTAIN, note=f"no parent was found, but {note}")
    return replace(finding, note=f"{finding.note}; {note}" if finding.note else note)


def _break_cycles(family: OpenFamily) -> None:
    """Take back what neighbourhoods say against each other: two models, each the other's parent."""
    while True:
        steps = nx.DiGraph(
            (parent, child)
            for child, parents in family.known_parents().items()
            for parent in parents
        )
        rings = [ring for ring in nx.strongly_connected_components(steps) if len(ring) > 1]
        if not rings:
            return
        for ring in rings:
            unproved = [n for n in ring if family.findings[n].grade is not Grade.PROVED]
            youngest = [max(ring, key=lambda name: birth(family.dates, name))]
            for name in sorted(unproved or youngest):
                finding = family.findings[name]
                family.findings[name] = replace(
                    finding,
                    grade=Grade.ABSTAIN,
                    probability=None,
                    parents=(),
                    ties=tuple(share.parent for share in finding.parents),
                    note="two neighbourhoods of its family contradict each other on which came "
                    "first",
                )
