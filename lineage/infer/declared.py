"""Claims gathered: everything that was said about one parent of one child."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from crawler.records import ClaimSource
from lineage.model import Evidence

__all__ = ["Declared", "Said", "declarations"]

_TRUST: Mapping[str, int] = {source: place for place, source in enumerate(ClaimSource)}
_RECIPES = frozenset({ClaimSource.MERGE_RECIPE, ClaimSource.CARD_RECIPE})
_LONGEST_QUOTE = 200


class Said(Protocol):
    """What a claim says, crawled or published."""

    @property
    def child(self) -> str:
        """Of whom."""

    @property
    def parent(self) -> str | None:
        """The repository that the words mean; None: not known."""

    @property
    def relation(self) -> str | None:
        """The Hub's word, where it was said."""

    @property
    def source(self) -> str:
        """One of :class:`crawler.records.ClaimSource`."""

    @property
    def text(self) -> str:
        """The words it came from."""

    @property
    def weight(self) -> float | None:
        """The share that a recipe states."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything that was said about one parent of one child, the most trusted source leading."""

    child: str
    parent: str
    claims: tuple[Said, ...]

    @property
    def trust(self) -> int:
        """Place of the most trusted source; 0 is trusted most."""
        return _TRUST[self.claims[0].source]

    @property
    def relation(self) -> str | None:
        """The relation that the most trusted source states that states one."""
        return next((claim.relation for claim in self.claims if claim.relation), None)

    @property
    def weight(self) -> float | None:
        """The share that the most trusted source states that states one."""
        return next((claim.weight for claim in self.claims if claim.weight is not None), None)

    @property
    def is_base(self) -> bool:
        """Whether recipes name it, and only as the base of the merge (``base_model``)."""
        return bool(self.claims) and all(
            claim.source in _RECIPES and claim.text.startswith("base_model ")
            for claim in self.claims
        )

    def evidence(self) -> Evidence:
        """The claim as evidence of an edge: how often it was said, and the words."""
        claim = self.claims[0]
        words = " ".join(claim.text.split())[:_LONGEST_QUOTE]
        source = str(claim.source).replace("_", " ")
        return Evidence("claim", float(len(self.claims)), f"declared by {source}: {words}")


def declarations(claims: Iterable[Said]) -> dict[str, tuple[Declared, ...]]:
    """Claims by child and parent, most trusted first.

    Claims of a model about itself, and those whose words mean no repository, are left out.
    """
    grouped: dict[str, dict[str, list[Said]]] = {}
    for claim in claims:
        if claim.parent is not None and claim.parent != claim.child:
            grouped.setdefault(claim.child, {}).setdefault(claim.parent, []).append(claim)
    said = {}
    for child in sorted(grouped):
        declared = [
            Declared(
                child, parent, tuple(sorted(group, key=lambda one: (_TRUST[one.source], one.text)))
            )
            for parent, group in grouped[child].items()
        ]
        said[child] = tuple(
            sorted(declared, key=lambda one: (one.trust, -(one.weight or 0.0), one.parent))
        )
    return said
