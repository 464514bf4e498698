"""What the explanation of one pair of models holds: as values, as a sentence, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

import lineage
from lineage.explorer.words import GRADE_WORDS, KIND_WORDS, number
from lineage.infer.explanation import Coefficients, Inherited, PairExplanation, Recheck
from lineage.infer.side_by_side import Total, total
from lineage.model import Finding, Grade, Kind, PairVerdict
from lineage.pipeline.inference_code import inference_code
from lineage.store.explained import InferenceRun
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.weights.probe import SCHEME

__all__ = ["FORMAT", "ExplainReport", "Link", "Relationship", "Side", "is_step", "sentence"]

FORMAT = 1
"""Version of :meth:`ExplainReport.to_dict`; it grows when a key changes its meaning or goes."""
_STEPS = frozenset({Kind.FINETUNE, Kind.CONTINUED_PRETRAINING, Kind.LORA_MERGED, Kind.VOCABULARY})


def is_step(finding: Finding) -> bool:
    """Whether a finding tells of training from one parent, of which arrows and shares speak.

    Copies and merges lie anywhere from their parents, and what removes a direction points back.
    """
    return finding.kind in _STEPS and finding.grade is not Grade.PROVED


class Relationship(StrEnum):
    """What the findings say of two models, the closest that holds."""

    ITSELF = "itself"
    PARENT = "parent"
    TIE = "tie"
    BASE = "base"
    ANCESTOR = "ancestor"
    CHILD = "child"
    DESCENDANT = "descendant"
    COMMON_ANCESTOR = "common_ancestor"
    NONE = "none"

    @property
    def is_finding(self) -> bool:
        """Whether the child's finding names the other model."""
        return self in (Relationship.PARENT, Relationship.TIE, Relationship.BASE)


@dataclass(frozen=True, slots=True)
class Link:
    """How the findings link two models.

    `path` leads from the child up to the other model, or to the common ancestor; `other_path`
    from the other model up to the child or the common ancestor. Empty where there is no such line.
    """

    relationship: Relationship
    path: tuple[str, ...] = ()
    other_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models: what is known of it, and which reading of its weights was used.

    `unread` says why there are no stored words; then `reading` has none. `finding` is its own.
    """

    model: str
    status: str
    created_at: datetime | None
    reading: LedgerRow | None
    unread: str | None
    dtype: str | None
    n_layers: int | None
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class ExplainReport:
    """An explanation of one pair of models of one home.

    Attributes
    ----------
    pair
        None where the weights of one were not read.
    coefficients
        Of a merge that names the other model: all its parents fitted together.
    inherited
        Of a step below another: what is carried of the step before.
    rechecks
        Stored values and the same computed again; `notes` say what else has changed since.
    pair_run, finding_run
        The inference that made the stored family test, and the one that first made the finding.
    """

    child: Side
    parent: Side
    link: Link
    pair: PairExplanation | None
    n_pairs: int
    coefficients: Coefficients | None
    inherited: Inherited | None
    pair_rechecks: tuple[Recheck, ...]
    finding_rechecks: tuple[Recheck, ...]
    notes: tuple[str, ...]
    pair_run: InferenceRun | None
    finding_run: InferenceRun | None

    @property
    def recomputes(self) -> bool | None:
        """Whether every stored value comes out again; None: nothing was stored of this pair."""
        rechecks = (*self.pair_rechecks, *self.finding_rechecks)
        return all(one.agrees for one in rechecks) if rechecks else None

    @property
    def codes(self) -> Total | None:
        """Codes of a quantised child that the parent reproduces; None: it has none that compare."""
        found = total(row for row in self.pair.tensors if row.n_codes) if self.pair else None
        return found if found is not None and found.n_codes else None

    def to_dict(self) -> dict[str, object]:
        """The explanation as documented in ``docs/commands.md``."""
        pair = self.pair
        return {
            "format": FORMAT,
            "child": _side(self.child),
            "parent": _side(self.parent),
            "sentence": sentence(self),
            "link": {
                "relationship": str(self.link.relationship),
                "path": list(self.link.path),
                "other_path": list(self.link.other_path),
            },
            "finding": _finding(self.child.finding),
            "kinship": None
            if pair is None
            else {
                "verdict": str(pair.test.verdict),
                "statistic": pair.test.statistic,
                "p_value": pair.test.p_value,
                "bit_equality": pair.test.bit_equality,
                "n_pairs": self.n_pairs,
            },
            "direction": None
            if pair is None or pair.direction is None
            else asdict(pair.direction) | {"parent_older_days": self.parent_older_days},
            "inherited": None if self.inherited is None else asdict(self.inherited),
            "coefficients": _coefficients(self.coefficients),
            "codes": None
            if self.codes is None
            else {
                "n_codes": self.codes.n_codes,
                "n_replayed": self.codes.n_replayed,
                "share": self.codes.replayed,
            },
            "tokens": [asdict(row) for row in pair.tokens] if pair else [],
            "layer_map": [asdict(source) for source in pair.layer_map] if pair else [],
            "layer_match": [asdict(match) for match in pair.layer_matches] if pair else [],
            "by_layer": self._sums("layer"),
            "by_role": self._sums("role"),
            "tensors": [
                {
                    "role": row.role,
                    "layer": row.layer,
                    "expert": row.expert,
                    "parent_layer": row.parent_layer,
                    **_sum(total([row])),
                }
                for row in (pair.tensors if pair else ())
            ],
            "recheck": {
                "recomputes": self.recomputes,
                "pair": [asdict(one) for one in self.pair_rechecks],
                "finding": [asdict(one) for one in self.finding_rechecks],
                "notes": list(self.notes),
            },
            "made_by": {
                "herdbook_version": lineage.__version__,
                "scheme": SCHEME,
                "code": inference_code(),
                "pair_run": None if self.pair_run is None else asdict(self.pair_run),
                "finding_run": None if self.finding_run is None else asdict(self.finding_run),
            },
        }

    @property
    def parent_older_days(self) -> float | None:
        """By how many days the parent was uploaded first; None where a date is missing."""
        child, parent = self.child.created_at, self.parent.created_at
        if child is None or parent is None:
            return None
        return (child - parent).total_seconds() / 86400

    def _sums(self, what: str) -> list[dict[str, object]]:
        if self.pair is None:
            return []
        rows = self.pair.tensors
        places = sorted(
            {getattr(row, what) for row in rows}, key=lambda at: (at is not None, at or 0)
        ) if what == "layer" else sorted({row.role for row in rows})  # fmt: skip
        return [
            {what: at, **_sum(total(row for row in rows if getattr(row, what) == at))}
            for at in places
        ]


# -- in words -----------------------------------------------------------------------------------

_PHRASES = {
    "founder": "a founder",
    "duplicate": "a duplicate of {}",
    "cast": "{}, cast to another number format",
    "quantized": "a quantisation{by} of {}",
    "finetune": "a fine-tune of {}",
    "continued_pretraining": "a continued pre-training of {}",
    "lora_merged": "{} with a LoRA merged in",
    "abliterated": "{} with one direction removed (abliteration)",
    "adapter": "an adapter for {}",
    "vocabulary": "{} with another vocabulary",
    "pruned": "{} with layers cut out",
    "passthrough": "a stack of layers of {}",
    "merge": "a merge{by} of {}",
    "moe": "a mixture of experts made of {}",
    "permuted": "{} with its units in another order",
    "common_init": "a founder",
}


def sentence(report: ExplainReport) -> str:
    """What the weights say of the pair, and how firmly, in one to three sentences."""
    child, parent, link = report.child, report.parent, report.link
    one, other, finding = child.model, parent.model, child.finding
    match link.relationship:
        case Relationship.ITSELF:
            return f"{one} is compared with itself: a model is no parent of its own."
        case Relationship.PARENT if finding is not None:
            return _says(finding)
        case Relationship.TIE if finding is not None:
            return _tie_says(finding, other)
        case Relationship.BASE if finding is not None:
            return f"{other} is the base of a merge. {_says(finding)}"
        case Relationship.CHILD if parent.finding is not None:
            return f"It is the other way round. {_says(parent.finding)}"
        case Relationship.ANCESTOR:
            says = f"{other} is an ancestor of {one}, not its parent: {_line(link.path)}."
        case Relationship.DESCENDANT:
            says = (
                f"It is the other way round. {one} is an ancestor of {other}: "
                f"{_line(link.other_path)}."
            )
        case Relationship.COMMON_ANCESTOR:
            says = (
                f"Neither is found to descend from the other; both come from {link.path[-1]}: "
                f"{_line(link.path)} and {_line(link.other_path)}."
            )
        case _:
            says = f"{_unlinked(report)} Nothing is asserted of the pair."
    return f"{says} {_says(finding)}" if finding is not None else says


def _unlinked(report: ExplainReport) -> str:
    child, parent = report.child, report.parent
    silent = [side for side in (child, parent) if side.unread is not None]
    if silent:
        told = "; ".join(f"the weights of {side.model} were not read ({side.unread})"
                         for side in silent)  # fmt: skip
        return f"{told[0].upper()}{told[1:]}."
    both = f"{child.model} and {parent.model}"
    verdict = report.pair.test.verdict if report.pair is not None else PairVerdict.UNTESTABLE
    return {
        PairVerdict.RELATED: f"{both} are related, but no finding links them.",
        PairVerdict.COMMON_INIT: f"{both} started from the same random initialisation and were "
        "trained apart: neither descends from the other.",
        PairVerdict.UNRELATED: f"The weights of {both} show no trace of a common origin.",
        PairVerdict.UNTESTABLE: f"The weights of {both} have nothing that can be compared.",
    }[verdict]


def _says(finding: Finding) -> str:
    """A finding in a sentence."""
    if finding.grade is Grade.ABSTAIN:
        note = finding.note or "nothing was decided"
        return f"The origin of {finding.child} is left open: {note.rstrip('.')}."
    shares = [
        share.parent if len(finding.parents) == 1 else f"{share.parent} ({number(share.weight)})"
        for share in finding.parents
    ]
    if finding.grade is Grade.TIE:
        return _tie_says(finding, finding.parents[0].parent if finding.parents else "")
    if not shares and finding.kind not in (Kind.FOUNDER, Kind.COMMON_INIT):
        kind = KIND_WORDS[finding.kind]
        return f"{finding.child} is of the kind {kind}, and its parent is not known."
    by = f" ({finding.method})" if finding.method else ""
    is_what = _PHRASES[finding.kind].format(_listed(shares), by=by)
    grade = f"{str(finding.grade).capitalize()}: {GRADE_WORDS[finding.grade]}."
    return f"{finding.child} is {is_what}. {grade}"


def _tie_says(finding: Finding, parent: str) -> str:
    if finding.grade is Grade.ABSTAIN:
        return _says(finding)
    others = [name for name in finding.ties if name != parent]
    as_good = f", and so may {_listed(others)}" if others else ""
    note = f" {finding.note[0].upper()}{finding.note[1:].rstrip('.')}." if finding.note else ""
    is_what = _PHRASES[finding.kind].format(parent, by="")
    return f"{finding.child} may be {is_what}{as_good}: a tie.{note}"


def _line(path: Sequence[str]) -> str:
    return " ← ".join(path)


def _listed(names: Sequence[str]) -> str:
    """Names in a row; nothing if there are none."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# -- as JSON ------------------------------------------------------------------------------------


def _side(side: Side) -> dict[str, object]:
    row = side.reading if side.unread is None else None
    return {
        "model": side.model,
        "status": side.status,
        "created_at": side.created_at,
        "unread": side.unread,
        "revision": row.revision if row else None,
        "scheme": row.scheme if row else None,
        "stage": row.stage if row else None,
        "digest": row.digest if row else None,
        "made_at": row.made_at if row else None,
        "format": row.format if row else None,
        "dtype": side.dtype,
        "n_layers": side.n_layers,
    }


def _finding(finding: Finding | None) -> dict[str, object] | None:
    if finding is None:
        return None
    fields = asdict(finding)
    return fields | {"kind": str(finding.kind), "grade": str(finding.grade)}


def _sum(counted: Total) -> dict[str, object]:
    return {
        "n_words": counted.n_words,
        "n_equal": counted.n_equal,
        "bit_match": counted.equal,
        "relative_change": counted.relative_change,
        "n_codes": counted.n_codes,
        "n_replayed": counted.n_replayed,
    }


def _coefficients(fit: Coefficients | None) -> dict[str, object] | None:
    if fit is None:
        return None
    return {
        "parents": list(fit.parents),
        "means": list(fit.means),
        "match": fit.match,
        "by_layer": [
            {"layer": layer, "coefficients": list(values)} for layer, values in fit.by_layer()
        ],
        "tensors": [
            {
                "role": role,
                "layer": layer,
                "expert": expert,
                "n_words": n_words,
                "coefficients": list(values),
            }
            for role, layer, expert, n_words, values in fit.tensors
        ],
    }
