"""The recipe of one model as a file, with what it rests on; or why there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crawler.records import is_repo_id
from lineage.errors import NoRecipeError, UsageError
from lineage.export.mergekit import MergeConfig, ModelName, Source, slices_of
from lineage.export.mergekit_reader import read_config
from lineage.infer.rebuilt import share_words
from lineage.model import Grade, Kind, LayerSource, ParentShare
from lineage.views.rows import FindingRow, ModelDetail
from lineage.views.words import KIND_WORDS
from lineage.weights.encodings import TORCH_NAMES

__all__ = ["Known", "RecoveredRecipe", "recover_recipe"]

_REPLAYED = "words_replayed"
"""Name of the evidence that says which share of the words a recipe reproduces."""
_OUTSIDE = "taken for granted: embeddings of the first slice, final norm and head of the last"
_MAX_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Known:
    """What a publication says beside the finding.

    Attributes
    ----------
    revisions
        Commit at which the weights of a model were read.
    dtypes
        Dtype of most of a model's words, in the names of safetensors.
    herdbook_version, data_date
        Of the publication.
    """

    revisions: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str | None] = field(default_factory=dict)
    herdbook_version: str = ""
    data_date: str = ""


@dataclass(frozen=True, slots=True)
class RecoveredRecipe:
    """A merge that rebuilds `model`; with `approximate`, one that only resembles it.

    `match` is the share of the words that were read which the recipe reproduces; None where it is
    not known as a number.
    """

    model: str
    kind: str
    method: str
    grade: str
    parents: tuple[ParentShare, ...]
    base: str | None
    match: float | None
    rests_on: str
    approximate: bool
    config: MergeConfig
    layer_map: tuple[LayerSource, ...]
    scheme: str | None
    known: Known

    @property
    def yaml(self) -> str:
        """The configuration, under comments that say what it rebuilds."""
        return "".join(f"# {_comment(line)}\n" for line in self._head()) + self.config.to_yaml()

    def _head(self) -> list[str]:
        revision = self.known.revisions.get(self.model)
        child = _name(self.model) + (f" at {revision}" if revision else "")
        if self.approximate:
            does = "DOES NOT" if self.match is None else "IS NOT PROVED TO"
            head = [
                f"APPROXIMATE: THIS {does} REBUILD THE MODEL.",
                "The weights prove no recipe; parents and shares below were inferred from them.",
                f"resembles: {child}",
            ]
        else:
            head = [f"rebuilds: {child}"]
        head += [
            f"method: {self.method}; grade: {self.grade}",
            self.rests_on,
            *([_OUTSIDE] if self.config.slices else []),
            *(f"parent: {_name(p.parent)}, share {_share(p)}" for p in self.parents),
        ]
        made = [f"found by herdbook {self.known.herdbook_version}".rstrip()]
        made += [f"scheme {self.scheme}"] if self.scheme else []
        made += [f"data of {self.known.data_date}"] if self.known.data_date else []
        return [*head, ", ".join(made), f"check: herdbook verify recipe.yml {_name(self.model)}"]

    def to_dict(self) -> dict[str, object]:
        """The recipe for programs."""
        return {
            "model": self.model,
            "revision": self.known.revisions.get(self.model),
            "kind": self.kind,
            "method": self.method,
            "grade": self.grade,
            "approximate": self.approximate,
            "match": self.match,
            "base": self.base,
            "parents": [
                {
                    "parent": share.parent,
                    "revision": self.known.revisions.get(share.parent),
                    "weight": share.weight,
                    "low": share.low,
                    "high": share.high,
                }
                for share in self.parents
            ],
            "layer_map": [
                {"layer": s.child_layer, "parent": s.parent, "parent_layer": s.parent_layer}
                for s in self.layer_map
            ],
            "scheme": self.scheme,
            "herdbook_version": self.known.herdbook_version,
            "data_date": self.known.data_date,
            "config": self.config.to_dict(),
            "yaml": self.yaml,
        }


def recover_recipe(
    detail: ModelDetail, known: Known, *, approximate: bool = False
) -> RecoveredRecipe:
    """The mergekit configuration that the weights of a model prove.

    A layer map that was found word for word is a recipe too: slices that stack those layers.

    Parameters
    ----------
    approximate
        Where no recipe is proved: the inferred one; or, where the weights show only parents and
        shares, or places of layers, the linear merge or the stack of these. None of them is
        proved to rebuild the model, and each says so.

    Raises
    ------
    NoRecipeError
        If none is proved; says what is known instead.
    """
    finding = detail.finding
    if finding is None:
        reasons = "".join(f": {problem.reason}" for problem in detail.problems[:1])
        raise NoRecipeError(
            f"no recipe: the weights of {detail.card.repo_id} were not read{reasons}"
        )
    is_proved = finding.grade == Grade.PROVED
    if finding.recipe_yaml and (is_proved or approximate):
        return _replayed(detail, finding, finding.recipe_yaml, known, approximate=not is_proved)
    if detail.layer_map and (is_proved or approximate):
        return _stacked(detail, finding, known, approximate=not is_proved)
    if approximate and finding.kind == Kind.MERGE and len(finding.parents) > 1:
        return _resembling(detail, finding, known)
    raise NoRecipeError(_why_none(finding, stacked=bool(detail.layer_map)))


def _replayed(
    detail: ModelDetail, finding: FindingRow, text: str, known: Known, *, approximate: bool
) -> RecoveredRecipe:
    try:
        config = read_config(text)
    except UsageError as error:
        raise NoRecipeError(f"the recipe of {finding.child} cannot be written: {error}") from error
    match = next((fact.value for fact in finding.evidence if fact.name == _REPLAYED), None)
    share = "every word" if match is None else share_words(match)
    rests_on = f"replays: {share} of the stored words that were read{_how_much(detail)}"
    return _recipe(
        detail, finding, config, known, match=match, rests_on=rests_on, approximate=approximate
    )


def _stacked(
    detail: ModelDetail, finding: FindingRow, known: Known, *, approximate: bool
) -> RecoveredRecipe:
    try:
        slices = slices_of(detail.layer_map)
    except ValueError as error:
        raise NoRecipeError(f"no recipe of {finding.child}: {error}") from error
    config = MergeConfig("passthrough", slices=slices, dtype=_cast(detail, finding, known))
    how = "by their feed-forward rows" if approximate else "word for word"
    n_layers = len(detail.layer_map)
    rests_on = f"rests on: all {n_layers} layers found {how} in what was read{_how_much(detail)}"
    return _recipe(
        detail, finding, config, known, match=None, rests_on=rests_on, approximate=approximate
    )


def _resembling(detail: ModelDetail, finding: FindingRow, known: Known) -> RecoveredRecipe:
    config = MergeConfig(
        "linear",
        models=tuple(
            Source(ModelName(p.parent), parameters=(("weight", round(p.weight, 4)),))
            for p in finding.parents
        ),
        dtype=TORCH_NAMES.get(detail.card.dtype or "", "float32"),
    )
    return _recipe(
        detail, finding, config, known, match=None, approximate=True,
        rests_on="rests on: shares fitted to the stored words; that the merge is linear is a guess",
    )  # fmt: skip


def _recipe(
    detail: ModelDetail,
    finding: FindingRow,
    config: MergeConfig,
    known: Known,
    *,
    match: float | None,
    rests_on: str,
    approximate: bool = False,
) -> RecoveredRecipe:
    for model in config.named():
        if {"@", "+"} & set(model.name):
            raise NoRecipeError(
                f"no recipe of {finding.child} can be written: mergekit would take {model.name} "
                "for another model"
            )
    return RecoveredRecipe(
        model=finding.child,
        kind=finding.kind,
        method=config.method,
        grade=finding.grade,
        parents=finding.parents,
        base=None if config.base is None else config.base.name,
        match=match,
        rests_on=rests_on,
        approximate=approximate,
        config=config.renamed(lambda model: _pinned(model, known)),
        layer_map=detail.layer_map,
        scheme=detail.fingerprint.scheme if detail.fingerprint else None,
        known=known,
    )


def _pinned(model: ModelName, known: Known) -> ModelName:
    return ModelName(model.name, model.revision or known.revisions.get(model.name))


def _cast(detail: ModelDetail, finding: FindingRow, known: Known) -> str | None:
    """The child's dtype where a parent has another: else words are best left as they are."""
    dtype = detail.card.dtype
    parents = {known.dtypes.get(share.parent) for share in finding.parents}
    return None if dtype is None or parents <= {dtype, None} else TORCH_NAMES.get(dtype)


def _how_much(detail: ModelDetail) -> str:
    read = detail.fingerprint
    if read is None:
        return ""
    return f" ({read.bytes_read / 1e6:,.2f} of {read.weight_bytes / 1e6:,.2f} MB of weight files)"


# ---- why there is none -----------------------------------------------------------------------


def _why_none(finding: FindingRow, *, stacked: bool) -> str:
    child, note = finding.child, finding.note.rstrip(".")
    shares = " and ".join(f"{p.parent} ({_share(p)})" for p in finding.parents)
    if finding.kind == Kind.MOE:
        base = f", its attention that of {finding.base}" if finding.base else ""
        return (
            f"no recipe of {child}: it is a mixture of experts made of {shares}{base} "
            f"({finding.grade}); that is mergekit-moe's work, in a format of its own, and the "
            "routers come from no parent, so no configuration rebuilds them"
        )
    if stacked:
        return (
            f"no recipe of {child} is proved: its layers were found in {shares} by their "
            "feed-forward rows, not word for word, so it was trained since; --approximate writes "
            "the stack"
        )
    if finding.kind == Kind.MERGE:
        base = f" on the base {finding.base}" if finding.base else ""
        if len(finding.parents) == 1:
            return (
                f"no recipe of {child}: the weights show a merge of {shares}{base} with a model "
                "that was not read"
            )
        if finding.recipe_yaml:
            return (
                f"no recipe of {child} is proved: the weights show a merge of {shares}{base} by "
                f"{finding.method}, whose recipe misses some of its words; --approximate writes it"
            )
        return (
            f"no recipe of {child} is proved: the weights show a merge of {shares}{base}, but "
            "neither method nor settings that replay its words; --approximate writes a linear "
            "recipe with these shares"
        )
    if finding.grade == Grade.ABSTAIN or not finding.parents:
        return f"no recipe of {child}: {note or 'the weights decide no parent'}"
    kind = KIND_WORDS.get(finding.kind, finding.kind)
    if finding.grade == Grade.TIE:
        return f"no recipe of {child}: {kind} of one of {', '.join(finding.ties)}, equally good"
    parent = finding.parents[0].parent
    return f"no recipe of {child}: the weights show one parent, {parent} ({kind}), and no merge"


# ---- words of strangers in comments ----------------------------------------------------------


def _share(share: ParentShare) -> str:
    bounds = (
        "" if share.low is None or share.high is None else f" [{share.low:.3f}, {share.high:.3f}]"
    )
    return f"{share.weight:.4g}{bounds}"


def _name(text: str) -> str:
    """A name as it is, or in quotes where it is none that the Hub would give."""
    return text if is_repo_id(text) else ascii(text)


def _comment(text: str) -> str:
    """`text` on one line of ASCII: what would break the line or hide in it is escaped."""
    return "".join(
        character if " " <= character <= "~" else character.encode("unicode_escape").decode("ascii")
        for character in text[:_MAX_CHARACTERS]
    )
