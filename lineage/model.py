"""The vocabulary of the register: kinds, verdicts, findings, edges, estimates. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Edge",
    "Estimate",
    "Evidence",
    "Finding",
    "Grade",
    "Kind",
    "LayerSource",
    "PairTest",
    "PairVerdict",
    "ParentShare",
    "Relation",
    "Verdict",
    "VocabularyMap",
]


class Kind(StrEnum):
    """How a model came to be; the words of ``truth.json``."""

    FOUNDER = "founder"
    DUPLICATE = "duplicate"
    CAST = "cast"
    QUANTIZED = "quantized"
    FINETUNE = "finetune"
    CONTINUED_PRETRAINING = "continued_pretraining"
    LORA_MERGED = "lora_merged"
    ABLITERATED = "abliterated"
    ADAPTER = "adapter"
    VOCABULARY = "vocabulary"
    PRUNED = "pruned"
    PASSTHROUGH = "passthrough"
    MERGE = "merge"
    MOE = "moe"
    PERMUTED = "permuted"
    COMMON_INIT = "common_init"


class Relation(StrEnum):
    """The Hub's word for an edge (its model tree knows these four)."""

    FINETUNE = "finetune"
    ADAPTER = "adapter"
    QUANTIZED = "quantized"
    MERGE = "merge"

    @staticmethod
    def of(kind: Kind) -> Relation:
        """The Hub's word for an edge of `kind`."""
        if kind in {Kind.MERGE, Kind.PASSTHROUGH, Kind.MOE}:
            return Relation.MERGE
        if kind is Kind.ADAPTER:
            return Relation.ADAPTER
        if kind is Kind.QUANTIZED:
            return Relation.QUANTIZED
        return Relation.FINETUNE


class Verdict(StrEnum):
    """Claim and finding reconciled."""

    CONFIRMED = "confirmed"
    UNDECLARED = "undeclared"
    CONTRADICTED = "contradicted"
    UNVERIFIED = "unverified"


class Grade(StrEnum):
    """How firmly an edge stands.

    ``proved``: bits replay. ``inferred``: with p-value and probability. ``tie``: one of several
    equally good parents. ``declared``: only somebody's word. ``abstain``: related, but parent or
    direction cannot be told (a finding of this grade makes no edge).
    """

    PROVED = "proved"
    INFERRED = "inferred"
    TIE = "tie"
    DECLARED = "declared"
    ABSTAIN = "abstain"


class PairVerdict(StrEnum):
    """What the weights say about two models."""

    RELATED = "related"
    UNRELATED = "unrelated"
    COMMON_INIT = "common_init"
    UNTESTABLE = "untestable"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is never bare: with its interval, sample size and method.

    `value`, `low` and `high` are NaN when the statistic cannot be trusted; `method` says why.
    `level` is the coverage of ``[low, high]``; `n` counts observations, `n_clusters` independent
    groups (founders), None where the method has none.
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    method: str
    n_clusters: int | None = None
    p_value: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1: {self.level}")
        if not math.isnan(self.value) and not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured fact behind a finding: a name, a number, and a sentence for people.

    `value` is None where nothing could be measured, never NaN.
    """

    name: str
    value: float | None
    text: str

    def __post_init__(self) -> None:
        if self.value is not None and math.isnan(self.value):
            raise ValueError(f"evidence {self.name!r} is not a number: say None")


@dataclass(frozen=True, slots=True)
class ParentShare:
    """A parent and its share of the child; `low`/`high` bound the share where it was estimated."""

    parent: str
    weight: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class LayerSource:
    """Layer `child_layer` of the child came from layer `parent_layer` of `parent`."""

    child_layer: int
    parent: str
    parent_layer: int


@dataclass(frozen=True, slots=True)
class VocabularyMap:
    """Where a child's rows of tokens came from, in numbers of tokens.

    `kept` tokens have the parent's number, `renumbered` ones another; `appended` are the child's
    alone, `dropped` the parent's alone.
    """

    kept: int
    renumbered: int
    appended: int
    dropped: int

    def __post_init__(self) -> None:
        if min(self.kept, self.renumbered, self.appended, self.dropped) < 0:
            raise ValueError(f"tokens are counted from zero: {self}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What the weights show about one model's origin.

    `parents` is empty for founders and abstentions; `ties` lists equally good single parents
    (the first of them also stands in `parents`, grade ``tie``). `p_value` is that of the family
    test against the nearest parent; `probability` the calibrated belief that the finding is true as
    it stands (:mod:`lineage.infer.calibration`), None without parents or while uncalibrated.
    `recipe_yaml` rebuilds the child with mergekit when the grade is ``proved``.
    `target_modules` are the roles of the matrices that a low-rank change touched, `rank` its rank;
    `vocabulary_map` is None where the vocabulary is the parent's. `unseen_ancestor` names a model
    that nobody published between the child and its parent; its other children name it too.
    """

    child: str
    kind: Kind
    grade: Grade
    parents: tuple[ParentShare, ...] = ()
    ties: tuple[str, ...] = ()
    base: str | None = None
    method: str | None = None
    rank: int | None = None
    layer_map: tuple[LayerSource, ...] = ()
    p_value: float | None = None
    probability: float | None = None
    evidence: tuple[Evidence, ...] = ()
    recipe_yaml: str | None = None
    note: str = field(default="")
    target_modules: tuple[str, ...] = ()
    vocabulary_map: VocabularyMap | None = None
    unseen_ancestor: str | None = None


@dataclass(frozen=True, slots=True)
class PairTest:
    """The family test of two models, `a` < `b`; `p_value` is None when nothing compared."""

    a: str
    b: str
    verdict: PairVerdict
    statistic: float | None
    p_value: float | None
    bit_equality: float | None


@dataclass(frozen=True, slots=True)
class Edge:
    """Claim and finding reconciled: one parent of one child."""

    child: str
    parent: str
    relation: str
    kind: str | None
    weight: float | None
    verdict: Verdict
    grade: Grade
    p_value: float | None
    probability: float | None
    evidence: tuple[Evidence, ...]
