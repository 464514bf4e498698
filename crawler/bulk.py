"""Tables of models that others made: which column means what. Pure.

Hub-wide snapshots, score tables and series of downloads name the same things differently. A column
is understood by its name alone, in a normal form (:func:`normal_name`), through the synonyms here,
which ``docs/ingest.md`` lists. What a person maps goes first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "FIELDS",
    "SYNONYMS",
    "Column",
    "Field",
    "Kind",
    "ScoreName",
    "Understanding",
    "may_be_score",
    "normal_name",
    "score_name",
    "understand",
]


class Kind(StrEnum):
    """What a table is read as."""

    DOWNLOADS = "downloads"
    SCORES = "scores"
    MODELS = "models"


class Field(StrEnum):
    """What a column can mean."""

    REPO_ID = "repo_id"
    KEY = "key"
    OBSERVED_AT = "observed_at"
    REVISION = "revision"
    DOWNLOADS_30D = "downloads_30d"
    DOWNLOADS_ALL_TIME = "downloads_all_time"
    LIKES = "likes"
    TRENDING = "trending"
    DATASET = "dataset"
    METRIC = "metric"
    VALUE = "value"
    AUTHOR = "author"
    CREATED_AT = "created_at"
    LAST_MODIFIED = "last_modified"
    GATED = "gated"
    DISABLED = "disabled"
    REMOVED = "removed"
    REMOVED_AT = "removed_at"
    LICENCE = "licence"
    LIBRARY = "library"
    PIPELINE_TAG = "pipeline_tag"
    TAGS = "tags"
    LANGUAGES = "languages"
    BASE_MODEL = "base_model"
    BASE_MODELS = "base_models"
    CARD_DATA = "card_data"
    CONFIG = "config"
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    PARAMETERS = "parameters"


SYNONYMS: Mapping[Field, tuple[str, ...]] = {
    Field.REPO_ID: (
        "repo_id", "id", "fullname", "full_name", "model_id", "hub_id", "hf_id",
        "model_name_for_query", "model_name", "model", "models", "repository", "repo", "name",
    ),
    Field.KEY: ("key", "slug", "model_key"),
    Field.OBSERVED_AT: (
        "observed_at", "snapshot_updated_at", "snapshot_date", "snapshot_at", "captured_at",
        "retrieved_at", "crawled_at", "fetched_at", "timestamp", "date", "submission_date", "day",
        "week",
    ),
    Field.REVISION: ("revision", "model_sha", "sha", "commit", "model_revision", "commit_hash"),
    Field.DOWNLOADS_30D: (
        "downloads_30d", "downloads", "downloads_last_month", "downloads_30_days", "dl",
        "hub_downloads",
    ),
    Field.DOWNLOADS_ALL_TIME: ("downloads_all_time", "all_time_downloads", "total_downloads"),
    Field.LIKES: ("likes", "hub_likes", "n_likes", "like_count", "hearts"),
    Field.TRENDING: ("trending", "trending_score"),
    Field.DATASET: ("dataset", "benchmark", "task", "eval", "evaluation", "test"),
    Field.METRIC: ("metric", "metric_name", "measure"),
    Field.VALUE: ("value", "score", "result", "metric_value"),
    Field.AUTHOR: ("author", "owner", "organization", "namespace"),
    Field.CREATED_AT: ("created_at", "created", "creation_date"),
    Field.LAST_MODIFIED: ("last_modified", "updated_at", "modified_at", "last_modified_at"),
    Field.GATED: ("gated", "is_gated"),
    Field.DISABLED: ("disabled", "is_disabled"),
    Field.REMOVED: ("removed", "deleted", "is_removed"),
    Field.REMOVED_AT: ("removed_at", "deleted_at"),
    Field.LICENCE: ("licence", "license", "hub_license"),
    Field.LIBRARY: ("library", "library_name"),
    Field.PIPELINE_TAG: ("pipeline_tag", "pipeline"),
    Field.TAGS: ("tags",),
    Field.LANGUAGES: ("languages", "language"),
    Field.BASE_MODEL: ("base_model",),
    Field.BASE_MODELS: ("base_models",),
    Field.CARD_DATA: ("card_data", "card_metadata"),
    Field.CONFIG: ("config",),
    Field.SAFETENSORS: ("safetensors",),
    Field.GGUF: ("gguf",),
    Field.PARAMETERS: ("parameters", "n_parameters", "num_parameters"),
}  # fmt: skip
"""Normal names that mean a field, best first."""

_COUNTS = (Field.DOWNLOADS_30D, Field.DOWNLOADS_ALL_TIME, Field.LIKES, Field.TRENDING)
FIELDS: Mapping[Kind, tuple[Field, ...]] = {
    Kind.DOWNLOADS: (Field.REPO_ID, Field.KEY, Field.OBSERVED_AT, *_COUNTS),
    Kind.SCORES: (
        Field.REPO_ID, Field.KEY, Field.OBSERVED_AT, Field.REVISION,
        Field.DATASET, Field.METRIC, Field.VALUE,
    ),
    Kind.MODELS: tuple(
        field for field in Field
        if field not in (Field.KEY, Field.DATASET, Field.METRIC, Field.VALUE)
    ),
}  # fmt: skip
"""Fields that each kind of table can have."""

# Numbers with these words in their column's name describe a model or its table; they are no score.
_NO_SCORE = frozenset(
    {
        "co2", "cost", "date", "downloads", "emissions", "epoch", "epochs", "flops", "id", "index",
        "layers", "likes", "params", "parameters", "price", "rank", "seed", "sha", "size", "tokens",
        "unnamed", "votes", "year",
    }
)  # fmt: skip
_LOSSES = frozenset({"loss", "cross_entropy", "cross-entropy", "crossentropy", "nll"})
_LOWER = _LOSSES | {"bits_per_byte", "bpb", "cer", "mae", "mse", "perplexity", "ppl", "rmse", "wer"}
_HIGHER = frozenset(
    {
        "acc", "acc_norm", "accuracy", "auc", "bleu", "chrf", "em", "exact_match", "f1", "map",
        "mc1", "mc2", "mcc", "meteor", "ndcg", "pass@1", "pearson", "precision", "recall", "rouge",
        "rouge1", "rouge2", "rougel", "spearman", "win_rate",
    }
)  # fmt: skip
# Types whose values can be read as numbers; text too, for CSV knows nothing else.
_NUMERIC = (
    "VARCHAR", "JSON", "DOUBLE", "FLOAT", "DECIMAL", "HUGEINT", "BIGINT", "INTEGER", "SMALLINT",
    "TINYINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT",
)  # fmt: skip
_PLAIN = "score"
_MAX_NAME_CHARACTERS = 500
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_PARTED = re.compile(r"\s*[|/:]\s*")
_BRACKETED = re.compile(r"^(?P<rest>[^()\[\]]+?)\s*[(\[](?P<metric>[^()\[\]]+)[)\]]\s*$")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, with the type that the file gives it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class ScoreName:
    """What a column of scores is called as a trait; `higher_is_better` None: not known."""

    name: str
    metric: str
    dataset: str
    higher_is_better: bool | None


@dataclass(frozen=True, slots=True)
class Understanding:
    """Which column of a table means which field."""

    kind: Kind
    columns: tuple[Column, ...]
    fields: Mapping[Field, str]

    def field_of(self, column: str) -> Field | None:
        """What `column` means, None when it was not understood."""
        return next((field for field, name in self.fields.items() if name == column), None)


def normal_name(column: str) -> str:
    """`column` in small ASCII letters and digits, words joined by ``_``.

    Hearts mean likes; other symbols say nothing.

    Examples
    --------
    >>> normal_name("downloadsAllTime"), normal_name("Hub ❤️"), normal_name("#Params (B)")
    ('downloads_all_time', 'hub_likes', 'params_b')
    """
    text = column[:_MAX_NAME_CHARACTERS].replace("❤", " likes ")
    text = unicodedata.normalize("NFKD", _CAMEL.sub("_", text)).lower()
    return _NOT_WORD.sub("_", text).strip("_")


def understand(
    kind: Kind, columns: Sequence[Column], mapped: Mapping[str, str] | None = None
) -> Understanding:
    """Tell which column means what.

    Parameters
    ----------
    kind
        What the table is read as.
    columns
        Of the table, in order. Of several that mean one field, the best synonym counts, and of
        equals the shortest spelling, then the first.
    mapped
        What a person said: field to column; an empty column means that the table has no such field.

    Raises
    ------
    ValueError
        If `mapped` names an unknown field or column, or a column twice.

    Examples
    --------
    >>> found = understand(Kind.DOWNLOADS, [Column("modelId", "VARCHAR"), Column("dl", "BIGINT")])
    >>> {str(field): name for field, name in found.fields.items()}
    {'repo_id': 'modelId', 'downloads_30d': 'dl'}
    """
    stated = _stated(kind, columns, mapped or {})
    fields = {field: name for field, name in stated.items() if name}
    names: dict[str, str] = {}
    # The plainest spelling of a word counts: a snapshot has its own "_id" beside the model's "id".
    for column in sorted(columns, key=lambda one: len(one.name)):
        names.setdefault(normal_name(column.name), column.name)
    for field in FIELDS[kind]:
        taken = set(fields.values())
        found = next(
            (names[word] for word in SYNONYMS[field] if names.get(word) not in (None, *taken)), None
        )
        if field not in stated and found is not None:
            fields[field] = found
    if kind is Kind.SCORES and not {Field.DATASET, Field.VALUE} <= fields.keys():
        # A long table has both; one alone is an ordinary column of a wide one.
        for field in (Field.DATASET, Field.METRIC, Field.VALUE):
            if field not in stated:
                fields.pop(field, None)
    return Understanding(kind, tuple(columns), fields)


def _stated(kind: Kind, columns: Sequence[Column], mapped: Mapping[str, str]) -> dict[Field, str]:
    known = {column.name for column in columns}
    possible = ", ".join(FIELDS[kind])
    found: dict[Field, str] = {}
    for word, name in mapped.items():
        if word not in FIELDS[kind]:
            raise ValueError(f"{word[:100]!r} is no field of {kind}; fields are {possible}")
        if name and name not in known:
            raise ValueError(f"there is no column {name[:100]!r}")
        if name and name in found.values():
            raise ValueError(f"the column {name[:100]!r} is mapped twice")
        found[Field(word)] = name
    return found


def may_be_score(column: Column) -> bool:
    """Whether numbers in `column` can be a score, by its name and type.

    Examples
    --------
    >>> [may_be_score(Column(n, "VARCHAR")) for n in ("MMLU", "#Params (B)", "Rank")]
    [True, False, False]
    """
    if column.type.endswith("]") or not column.type.startswith(_NUMERIC):
        return False
    return not _NO_SCORE & set(normal_name(column.name).split("_"))


def score_name(column: str, metric: str | None = None) -> ScoreName:
    """The trait that a column of scores, or a benchmark with its `metric`, states.

    ``<metric>/<data set>`` in small letters, like the evaluations of a card; the words stand in
    metric and data set as they were written. A metric is told from the data set by brackets or by
    ``|``, ``/`` or ``:`` where it is a known word; without one it is ``score``.

    Examples
    --------
    >>> score_name("ARC-C").name, score_name("HellaSwag (acc_norm)").name
    ('score/arc-c', 'acc_norm/hellaswag')
    >>> found = score_name("wer|FLEURS")
    >>> found.metric, found.dataset, found.higher_is_better
    ('wer', 'FLEURS', False)
    """
    words = " ".join(column.split())[:_MAX_NAME_CHARACTERS]
    said, dataset = (metric, words) if metric else _parts(words)
    word = " ".join(said.split())[:_MAX_NAME_CHARACTERS] if said else _PLAIN
    small = word.lower()
    prefix = "loss" if small in _LOSSES else small
    better = True if small in _HIGHER else False if small in _LOWER else None
    return ScoreName(f"{prefix}/{_small(dataset)}", word, dataset, better)


def _small(dataset: str) -> str:
    """Small letters without symbols such as arrows, unless nothing else is there."""
    kept = "".join(
        c for c in dataset.lower() if unicodedata.category(c)[0] not in "SC" and c != "\ufe0f"
    )
    return " ".join(kept.split()) or dataset.lower()


def _parts(words: str) -> tuple[str | None, str]:
    known = _LOWER | _HIGHER
    bracketed = _BRACKETED.match(words)
    if bracketed and bracketed["metric"].strip().lower() in known:
        return bracketed["metric"].strip(), bracketed["rest"]
    parts = _PARTED.split(words)
    if len(parts) > 1 and parts[0].lower() in known:
        return parts[0], words[len(parts[0]) :].lstrip(" |/:")
    if len(parts) > 1 and parts[-1].lower() in known:
        return parts[-1], words[: -len(parts[-1])].rstrip(" |/:")
    return None, words
