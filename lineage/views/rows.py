"""Frozen rows: the answers that :mod:`lineage.views` gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from lineage.model import Evidence, LayerSource, ParentShare, VocabularyMap

__all__ = [
    "AuditPage",
    "AuditRow",
    "Births",
    "ClaimRow",
    "Coverage",
    "EdgeRow",
    "EstimateRow",
    "Example",
    "Family",
    "FileRow",
    "FindingRow",
    "FingerprintRow",
    "Mark",
    "ModelCard",
    "ModelDetail",
    "Neighbourhood",
    "ProblemRow",
    "SearchHit",
    "Stack",
    "TraitRow",
]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model: its latest observation, its finding and its place in the graph."""

    repo_id: str
    status: str
    author: str | None
    created_at: datetime | None
    downloads_30d: int | None
    likes: int | None
    licence: str | None
    library: str | None
    pipeline_tag: str | None
    architecture: str | None
    parameters: int | None
    dtype: str | None
    size_bytes: int | None
    revision: str | None
    kind: str | None
    grade: str | None
    note: str | None
    primary_parent: str | None
    founder: str
    generation: int
    n_parents: int
    n_children: int
    n_descendants: int
    pos: int
    size: int
    n_claims: int
    n_problems: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A model and how its name matches: exact, prefix, substring or near."""

    how: str
    model: ModelCard


@dataclass(frozen=True, slots=True)
class Example:
    """A model worth a look, and why: undeclared, contradicted, merge or family."""

    why: str
    model: ModelCard


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """One parent of one child, with verdict, grade and evidence."""

    child: str
    parent: str
    position: int
    relation: str
    kind: str | None
    weight: float | None
    verdict: str
    grade: str
    p_value: float | None
    probability: float | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """What somebody said about a parent."""

    child: str
    parent: str | None
    parent_text: str
    relation: str | None
    source: str
    text: str
    weight: float | None
    method: str | None
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class FindingRow:
    """What the weights show about one model."""

    finding_id: int
    child: str
    kind: str
    grade: str
    base: str | None
    method: str | None
    rank: int | None
    p_value: float | None
    probability: float | None
    ties: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    recipe_yaml: str | None
    note: str
    found_at: datetime
    parents: tuple[ParentShare, ...]
    target_modules: tuple[str, ...] = ()
    vocabulary_map: VocabularyMap | None = None
    unseen_ancestor: str | None = None


@dataclass(frozen=True, slots=True)
class TraitRow:
    """A measured property of a model."""

    name: str
    value: float
    metric: str
    dataset: str
    higher_is_better: bool | None
    source: str


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """Something that could not be read, with its reason."""

    stage: str
    path: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """A large file of a repository."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FingerprintRow:
    """What the fingerprint pass read of a model."""

    scheme: str
    format: str | None
    bytes_read: int
    requests: int
    weight_bytes: int
    n_tensors: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """A population statistic with its interval; where `value` is None, `method` says why."""

    statistic: str
    trait: str | None
    fitness: str | None
    population: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    n_clusters: int | None
    p_value: float | None
    method: str


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """Everything known about one model."""

    card: ModelCard
    parents: tuple[EdgeRow, ...]
    children: tuple[EdgeRow, ...]
    claims: tuple[ClaimRow, ...]
    finding: FindingRow | None
    layer_map: tuple[LayerSource, ...]
    traits: tuple[TraitRow, ...]
    problems: tuple[ProblemRow, ...]
    fingerprint: FingerprintRow | None
    files: tuple[FileRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """One model in a drawing. A ghost is a parent of which only the name is known.

    An ancestor that nobody published is a ghost too, of status ``unseen``.

    `n_parents` counts the parents in the drawing, without ties and contradicted claims;
    `n_absent` the parents that are in the register but not in the drawing; `n_hidden` the children
    that are not drawn. `verdict` is that of the first parent, None without one; `primary` names the
    parent that the primary forest follows, drawn or not; `is_hit` says that the name is one that
    was looked for.
    """

    repo_id: str
    relation: str
    kind: str | None
    status: str
    created_at: datetime | None
    pos: int
    n_parents: int
    n_descendants: int
    n_hidden: int
    ghost: bool = False
    verdict: str | None = None
    licence: str | None = None
    task: str | None = None
    architecture: str | None = None
    library: str | None = None
    downloads_30d: int | None = None
    likes: int | None = None
    parameters: int | None = None
    n_absent: int = 0
    primary: str | None = None
    is_hit: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """Models of one relation that descend from `owner` and are not drawn one by one."""

    owner: str
    relation: str
    n: int


@dataclass(frozen=True, slots=True)
class Births:
    """How many of those that are not drawn below `owner` were born in one span of time.

    `start` is its first day (UTC), `Neighbourhood.step` its length; `category` is None where
    unknown.
    """

    owner: str
    start: date
    category: str | None
    n: int


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What a drawing of one model's lineage shows.

    `n_left_out` models of the clade are not drawn one by one; `n_filtered` of them lie outside the
    bounds that were asked for and are in no stack either. `stacks` and `births` count the others
    below the nearest of their ancestors that is drawn; `step` is day, week or month.
    """

    focus: str
    marks: tuple[Mark, ...]
    edges: tuple[EdgeRow, ...]
    n_left_out: int
    n_filtered: int = 0
    stacks: tuple[Stack, ...] = ()
    births: tuple[Births, ...] = ()
    step: str = "month"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An edge beside what was declared and what was found about its child."""

    edge: EdgeRow
    claims: tuple[ClaimRow, ...]
    finding: FindingRow | None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page of the audit, and how many edges each verdict has under the same filters."""

    rows: tuple[AuditRow, ...]
    confirmed: int
    undeclared: int
    contradicted: int
    unverified: int

    def count(self, verdict: str) -> int:
        """Number of edges of `verdict`; of all verdicts when it is empty."""
        counted = {
            "confirmed": self.confirmed,
            "undeclared": self.undeclared,
            "contradicted": self.contradicted,
            "unverified": self.unverified,
        }
        return counted[verdict] if verdict else sum(counted.values())


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was seen, read and decided."""

    n_models: int
    n_readable: int
    n_fingerprinted: int
    n_edges: int
    n_confirmed: int
    n_undeclared: int
    n_contradicted: int
    n_unverified: int
    n_merges: int
    n_recipes: int
    n_founders: int
    n_abstained: int
    n_claims: int
    n_problems: int
    n_pairs: int
    bytes_read: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Family:
    """A founder or an owner, and the number of models."""

    name: str
    n_models: int
