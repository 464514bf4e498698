"""Evaluation results that cards and ``.eval_results`` files state, as stated. Pure and bounded.

Two forms: the card's ``model-index``, and the Hub's newer entries [1]_ (files
``.eval_results/*.yaml``, the field ``evalResults`` of a model's details). A value is never
rescaled: one card's 0.73 is another's 73, and which is meant is for whoever compares them.

References
----------
.. [1] https://huggingface.co/docs/hub/eval-results
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from crawler.plain_yaml import items_of, mapping_of, number_of, read_yaml, word_of
from crawler.records import EvalResult
from crawler.words import clean_word

__all__ = ["evaluations", "read_eval_results"]

_MAX_EVALUATIONS = 5_000
_MAX_ENTRIES = 10_000
_LOSSES = frozenset({"loss", "cross_entropy", "cross-entropy", "crossentropy", "nll"})
_LOWER_IS_BETTER = _LOSSES | {
    "bits_per_byte", "bpb", "cer", "hter", "mae", "mse", "perplexity", "ppl", "rmse", "ter", "wer",
}  # fmt: skip
_HIGHER_IS_BETTER = frozenset(
    {
        "acc", "acc_norm", "accuracy", "auc", "average_precision", "bertscore", "bleu", "chrf",
        "em", "exact_match", "f1", "map", "mc2", "mcc", "meteor", "mrr", "ndcg", "pass@1",
        "pearson", "precision", "recall", "roc_auc", "rouge", "rouge1", "rouge2", "rougel",
        "rougelsum", "sacrebleu", "spearman", "win_rate",
    }
)  # fmt: skip
_BENCHMARK_METRIC = "score"
_DEFAULT_TASK = "default"


@dataclass(frozen=True, slots=True)
class _Stated:
    """One result before it has a name; `circumstances` tell it from others of the same name."""

    metric: str
    dataset: str
    value: float
    circumstances: tuple[str | None, ...]


def evaluations(metadata: Mapping[str, object], entries: object = None) -> tuple[EvalResult, ...]:
    """The numbers of a card's ``model-index`` and of the Hub's newer result entries.

    Parameters
    ----------
    metadata
        A card's metadata, or a record of the Hub with ``model-index``.
    entries
        The field ``evalResults`` of a model's details, or what :func:`read_eval_results` read.

    Returns
    -------
    tuple of EvalResult
        A result is named ``<metric>/<data set>`` in small letters, with ``loss`` for every form of
        cross-entropy. The first of a name keeps it. A later one under other circumstances
        (configuration, split, revision; for an entry notes, revision, date) adds to the data set as
        many of them, in brackets, as tell it apart; one under the same circumstances is a
        repetition and left out. Of an entry the metric is ``score``, for it states none, and the
        data set ends in its task, in brackets, unless that is ``default``: a benchmark's tasks are
        never compared with one another. What is no finite number is left out; ``73.2%`` is 73.2.

    Examples
    --------
    >>> metrics = [{"type": "acc", "value": 61}]
    >>> index = {"results": [{"dataset": {"name": "MMLU"}, "metrics": metrics}]}
    >>> entry = {"dataset": {"id": "cais/hle", "task_id": "default"}, "value": 20.9}
    >>> [(r.name, r.value) for r in evaluations({"model-index": [index]}, [entry])]
    [('acc/mmlu', 61.0), ('score/cais/hle', 20.9)]
    """
    if not entries and not metadata.get("model-index"):  # as most records of a listing
        return ()
    found: dict[str, EvalResult] = {}
    seen: set[tuple[str, tuple[str | None, ...]]] = set()
    stated_there = islice(_of_index(metadata), _MAX_ENTRIES)
    for stated in (*stated_there, *_of_entries(entries)):
        if len(found) == _MAX_EVALUATIONS:
            break
        plain = _result(stated, stated.dataset)
        if (plain.name, stated.circumstances) in seen:
            continue
        seen.add((plain.name, stated.circumstances))
        result = _told_apart(stated, plain, found)
        if result is not None:
            found[result.name] = result
    return tuple(found.values())


def read_eval_results(text: str) -> Sequence[object]:
    """The entries of a file ``.eval_results/*.yaml``.

    Raises
    ------
    MalformedError
        If the text is no YAML within the bounds of :func:`crawler.plain_yaml.read_yaml`.
    """
    return [entry for document in read_yaml(text) for entry in items_of(document)]


def _told_apart(
    stated: _Stated, plain: EvalResult, found: Mapping[str, EvalResult]
) -> EvalResult | None:
    """The result under the first name that is free; None when its circumstances give it none."""
    result, known = plain, [word for word in stated.circumstances if word is not None]
    for n in range(len(known) + 1):
        if n:
            result = _result(stated, f"{stated.dataset} [{', '.join(known[:n])}]")
        if result.name not in found:
            return result
    return None


def _result(stated: _Stated, dataset: str) -> EvalResult:
    word = stated.metric.lower()
    prefix = "loss" if word in _LOSSES else word
    better = True if word in _HIGHER_IS_BETTER else False if word in _LOWER_IS_BETTER else None
    return EvalResult(f"{prefix}/{dataset.lower()}", stated.value, stated.metric, dataset, better)


def _text(value: object) -> str | None:
    """A word; numbers count as words, for data sets are called ``2024``."""
    return clean_word(word_of(value))


def _value(value: object) -> float | None:
    word = value.strip().removesuffix("%") if isinstance(value, str) else value
    return number_of(word)


def _of_index(metadata: Mapping[str, object]) -> Iterable[_Stated]:
    for entry in items_of(metadata.get("model-index")):
        for result in items_of(mapping_of(entry).get("results")):
            dataset = mapping_of(mapping_of(result).get("dataset"))
            name = _text(dataset.get("name")) or _text(dataset.get("type"))
            if name is None:
                continue
            circumstances = tuple(
                _text(dataset.get(key)) for key in ("config", "split", "revision")
            )
            for item in items_of(mapping_of(result).get("metrics")):
                metric = mapping_of(item)
                kind = _text(metric.get("type")) or _text(metric.get("name"))
                value = _value(metric.get("value"))
                if kind is not None and value is not None:
                    yield _Stated(kind, name, value, circumstances)


def _of_entries(entries: object) -> Iterable[_Stated]:
    """Entries as they stand in a file, or wrapped by the Hub with the file's name."""
    for item in items_of(entries)[:_MAX_ENTRIES]:
        wrapped = mapping_of(item)
        if "error" in wrapped:
            continue  # the Hub found the file invalid
        entry = mapping_of(wrapped.get("data", wrapped))
        dataset = mapping_of(entry.get("dataset"))
        benchmark, value = _text(dataset.get("id")), _value(entry.get("value"))
        if benchmark is None or value is None:
            continue
        task = _text(dataset.get("task_id")) or _text(dataset.get("config"))
        name = benchmark if task in (None, _DEFAULT_TASK) else f"{benchmark} [{task}]"
        circumstances = (
            _text(entry.get("notes")), _text(dataset.get("revision")), _text(entry.get("date")),
        )  # fmt: skip
        yield _Stated(_BENCHMARK_METRIC, name, value, circumstances)
