"""Model cards: metadata, evaluations and what they say of parents. Pure and bounded.

A card whose block of metadata cannot be read is still read as prose. Nothing of a card is ever
executed or rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from crawler.errors import MalformedError
from crawler.plain_yaml import items_of, mapping_of, number_of, read_yaml, word_of
from crawler.records import EvalResult
from crawler.references import MAX_WORD_CHARACTERS, Mention, mention_of, resolve_repo_id

__all__ = [
    "MAX_CARD_CHARACTERS",
    "Mention",
    "card_metadata",
    "declared_parents",
    "evaluations",
    "mentions",
    "prose_parents",
    "relation_of",
    "text_of",
]

MAX_CARD_CHARACTERS = 1 << 20
"""Longer cards are refused."""

_RELATIONS = frozenset({"adapter", "finetune", "merge", "quantized"})
_MAX_BASE_MODELS = 256
_MAX_EVALUATIONS = 5_000
_MAX_PROSE_CHARACTERS = 300_000
_MAX_SENTENCE_CHARACTERS = 1_000
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


def card_metadata(card_text: str) -> Mapping[str, object]:
    r"""The block of metadata at the top of a card: plain text, lists and mappings; empty without.

    Raises
    ------
    MalformedError
        If the card is too long, or the block is no mapping within the bounds of
        :func:`crawler.plain_yaml.read_yaml`.

    Examples
    --------
    >>> card_metadata("---\nlanguage: no\nbase_model: a/b\n---\n# A model")
    {'language': 'no', 'base_model': 'a/b'}
    """
    if len(card_text) > MAX_CARD_CHARACTERS:
        raise MalformedError(f"{len(card_text)} characters are too many for a card")
    block, _ = _split(card_text)
    if block is None or not block.strip():
        return {}
    documents = read_yaml(block)
    fields = documents[0] if documents else {}
    if not isinstance(fields, dict):
        if word_of(fields) is None and not isinstance(fields, list):
            return {}  # comments alone
        raise MalformedError("the metadata is not a mapping of names to values")
    return fields


def _split(card_text: str) -> tuple[str | None, str]:
    """The block of metadata between two lines ``---`` at the top, and what follows it."""
    text = card_text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    start = re.match(r"\s*---[ \t]*\n", text)
    if start is None:
        return None, text
    stop = re.compile(r"^---[ \t]*$", re.MULTILINE).search(text, start.end())
    if stop is None:
        return None, text
    return text[start.end() : stop.start()], text[stop.end() :]


def text_of(value: object) -> str | None:
    """A word of metadata, cut to a sane length; None when there is none."""
    word = word_of(value)
    return word[:MAX_WORD_CHARACTERS] if word else None


def mentions(value: object, child: str) -> tuple[Mention, ...]:
    """The models that a ``base_model`` names: a word, a list, or mappings such as ``{name: X}``."""
    found: dict[str, Mention] = {}
    for item in items_of(value)[:_MAX_BASE_MODELS]:
        named = item
        if isinstance(item, dict):
            keys = [key for key in ("model", "name", "id", "repo", "path") if key in item]
            named = item[keys[0]] if keys else None
        mention = mention_of(named, child)
        if mention is not None:
            found.setdefault(mention.words, mention)
    return tuple(found.values())


def declared_parents(metadata: Mapping[str, object], child: str) -> tuple[Mention, ...]:
    """The models that a card's metadata declares as `child`'s base."""
    return mentions(metadata.get("base_model"), child)


def relation_of(metadata: Mapping[str, object]) -> str | None:
    """The relation that a card's metadata declares, if it is one of the Hub's four words."""
    relation = text_of(metadata.get("base_model_relation"))
    return relation if relation in _RELATIONS else None


def evaluations(metadata: Mapping[str, object]) -> tuple[EvalResult, ...]:
    """The numbers of a card's ``model-index``.

    A result is named ``<metric>/<data set>`` in small letters, with ``loss`` for every form of
    cross-entropy; of several for one name the first counts. What is no finite number is left out.
    """
    found: dict[str, EvalResult] = {}
    for entry in items_of(metadata.get("model-index")):
        for result in items_of(mapping_of(entry).get("results")):
            stated = mapping_of(mapping_of(result).get("dataset"))
            dataset = text_of(stated.get("name")) or text_of(stated.get("type"))
            for metric in items_of(mapping_of(result).get("metrics")):
                evaluation = _evaluation(mapping_of(metric), dataset)
                if evaluation is not None and len(found) < _MAX_EVALUATIONS:
                    found.setdefault(evaluation.name, evaluation)
    return tuple(found.values())


def _evaluation(metric: Mapping[str, object], dataset: str | None) -> EvalResult | None:
    kind = text_of(metric.get("type")) or text_of(metric.get("name"))
    value = number_of(metric.get("value"))
    if kind is None or value is None or dataset is None:
        return None
    word = kind.lower()
    prefix = "loss" if word in _LOSSES else word
    better = True if word in _HIGHER_IS_BETTER else False if word in _LOWER_IS_BETTER else None
    return EvalResult(f"{prefix}/{dataset.lower()}", value, kind, dataset, better)


_CODE = re.compile(r"^[ \t>]*(```|~~~).*?(^[ \t>]*\1|\Z)", re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r"\n\s*\n|\n\s*[-*#|]|(?<=[.!?])\s")
_TRIGGERS = (
    (
        re.compile(
            r"\bfine-?\s?tun(?:ed?|ing)\b[^.\n]{0,40}?\b(?:from|of|on top of)\b"
            r"|\bfine-?\s?tuned\s+(?:version\s+)?(?=[`\[*(]|https?:)",
            re.IGNORECASE,
        ),
        "finetune",
    ),
    (
        re.compile(
            r"\bquanti[sz](?:ed|ation)s?\b[^.\n]{0,40}?\b(?:from|of)\b"
            r"|\bgguf\b[^.\n]{0,40}?\b(?:from|of)\b",
            re.IGNORECASE,
        ),
        "quantized",
    ),
    (
        re.compile(
            r"\bmerged?\b[^.\n]{0,40}?\b(?:of|from|between|using)\b"
            r"|\bmerging\b",
            re.IGNORECASE,
        ),
        "merge",
    ),
    (re.compile(r"\b(?:lora|adapter)\b[^.\n]{0,20}?\bfor\b", re.IGNORECASE), "adapter"),
    (
        re.compile(
            r"\b(?:based (?:up)?on|built (?:up)?on|derived from|initiali[sz]ed from"
            r"|trained (?:on top of|from))\b",
            re.IGNORECASE,
        ),
        None,
    ),
)
_NAME = r"[A-Za-z0-9][\w.\-]{0,95}"
_MENTION = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<address>{_NAME}(?:/{_NAME})?)"
    rf"|[`\[*\"'(]\s*(?P<marked>{_NAME}/{_NAME})\s*[`\]*\"')]"
    rf"|(?<![\w./:\-])(?P<bare>{_NAME}/(?=[\w.\-]*[\d\-]){_NAME})",
    re.ASCII,
)


def prose_parents(card_text: str, child: str) -> Iterator[tuple[Mention, str | None]]:
    """Repositories that a sentence names after words of descent, with the relation it speaks of.

    The sentence is the mention's context. Names before those words, data sets and the model itself
    do not count.
    """
    _, body = _split(card_text[:MAX_CARD_CHARACTERS])
    prose = _CODE.sub("\n\n", body[:_MAX_PROSE_CHARACTERS])
    seen = {child}
    for sentence in _SENTENCE_END.split(prose):
        words = " ".join(sentence.split())[:_MAX_SENTENCE_CHARACTERS]
        said = _first_trigger(words)
        if said is None:
            continue
        after, relation = said
        for match in _MENTION.finditer(words, after):
            written = match["address"] or match["marked"] or match["bare"]
            written = written.rstrip(".")
            if match["address"]:
                written = f"https://huggingface.co/{written}"
            repo_id = resolve_repo_id(written)
            if repo_id is not None and repo_id not in seen:
                seen.add(repo_id)
                yield Mention(repo_id, written, words), relation


def _first_trigger(words: str) -> tuple[int, str | None] | None:
    found = [
        (match.start(), match.end(), relation)
        for pattern, relation in _TRIGGERS
        if (match := pattern.search(words))
    ]
    if not found:
        return None
    _, after, relation = min(found, key=lambda item: item[0])
    return after, relation
