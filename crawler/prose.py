"""What the sentences of a card say of parents: the least trusted words. Pure and bounded.

A repository counts where a sentence names it after words of descent ("fine-tuned from", "a merge
of"), right before some ("[X] fine-tuned on …"), or in the list that such words announce. Left out
are sentences about another model than the card's own, and everything after a heading that says
that the rest was copied from the original's card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from crawler.references import Mention, resolve_repo_id

__all__ = ["MAX_PROSE_CHARACTERS", "MAX_SENTENCE_CHARACTERS", "prose_parents", "sentences_parents"]

MAX_PROSE_CHARACTERS = 300_000
"""What stands further down in a card is not read for its sentences."""

MAX_SENTENCE_CHARACTERS = 1_000
"""Longer sentences are cut."""

_MAX_HEADING_CHARACTERS = 200
_MAX_PARENTS = 256
_MAX_PIECE_CHARACTERS = 20_000
_MAX_WORDS_TO_PARENT = 150
_MAX_WORDS_TO_SUBJECT = 80

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?![a-z][^\s/]*(?:\s|$))")
_ITEM = re.compile(r"[-*+•–]+\s|\d{1,3}[.)]\s")
_QUOTED = re.compile(
    r"#{1,6}\W{0,30}original\s{1,9}(?:model\s{1,9})?(?:card|description|readme)\b"
    r"|#{1,6}\W{0,30}original model\b.{0,40}card",
    re.IGNORECASE,
)

# Read in small letters and without a word boundary in front: the engine then skips to one of a few
# letters, which is five times as fast as ignoring case.
_TRIGGER = re.compile(
    r"(?P<finetune>fine[- ]?tun(?:ed?|ing)\b[^.:\n]{0,40}?\b(?:from|of|on top of)\b"
    r"|fine[- ]?tuned\s{1,9}(?:version\s{1,9})?(?=[`\[*(]|https?:))"
    r"|(?P<quantized>quanti[sz](?:ed|ation)s?\b[^.:\n]{0,40}?\b(?:from|of)\b"
    r"|(?:gguf|gptq|awq|exl2|mlx|onnx)\b[^.:\n]{0,40}?\b(?:from|of|files for)\b"
    r"|converted to\b[^.:\n]{0,40}?\bfrom\b)"
    r"|(?P<merge>mergers? (?:of|between)\b"
    r"|merge[ds]?\b[^.:\n]{0,40}?\b(?:of|from|between|using|with|are)\b"
    r"|merging\b"
    r"|included in the merge\b)"
    r"|(?P<adapter>(?:lora|adapter)\b[^.:\n]{0,20}?\bfor\b)"
    r"|(?P<plain>(?:based (?:up)?on|built (?:up)?on|derived from|adapted from"
    r"|initiali[sz]ed (?:from|with)|trained (?:on top of|from))\b"
    r"|base[ _]model\b[\s*_`]{0,6}(?::|(?=[`\[])))"
)
_LIST_HEADING = re.compile(
    r"#{1,6}\W{0,30}(?:the\s{1,9})?(?:language\s{1,9})?"
    r"(?:models?\s{1,9}(?:merged|used)\b|merged?\s{1,9}models?\b)"
    r"|#{1,6}.{0,40}\bmodels\b.{0,20}\bused\b",
    re.IGNORECASE,
)
_SAID_AFTER = re.compile(
    r"[`*_\s]{0,9}(?:(?:base\s)?model[,\s]{0,3}|\b)"
    r"(?:(?P<finetune>fine[- ]?tuned\b[^.:]{0,20}?\b(?:on|using|with|for)\b)"
    r"|(?P<plain>as\s(?:the|a|an|its|our|my)\sbase\b))",
    re.IGNORECASE,
)
# What is "based on" a model here is no model.
_OTHER_SUBJECT = re.compile(
    r"\b(?:cards?|readme|data|datasets?|code|prompts?|format|template|tokenizer|papers?|licen[cs]e|scripts?"
    r"|recipe|methods?|work|results?|responses?|answers?|benchmarks?)\W{0,8}"
    r"(?:(?:is|are|was|were|has\s+been|have\s+been)\s+)?$",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\W*(?:if|when|whether|unless)\b", re.IGNORECASE)
_DESCENDANTS = re.compile(
    r"\b(?:available|provided|hosted|uploaded|download|found|(?:of|for)\s+(?:this|the)\s+model)\b",
    re.IGNORECASE,
)
# Between two parents that are named one after the other.
_CONNECTION = re.compile(
    r"[\s`*_)\]\"',;&+]*(?:\b(?:and|plus|with)\b(?:\s+(?:the|a|my|our)\b)?[\s`*_(\[\"']*)?$",
    re.IGNORECASE,
)

_ASCII_SMALL = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}

_NAME = r"[A-Za-z0-9][\w.\-]{0,95}"
_MENTION = re.compile(
    r"\[(?P<label>[^\[\]]{1,200})\]\(\s*(?P<target>[^()\s]{1,300})[^()]{0,100}\)"
    rf"|(?<![\w.\-/])(?P<address>(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/{_NAME}"
    rf"(?:/{_NAME})?)"
    rf"|[`\[*\"']\s?(?P<marked>{_NAME}/{_NAME})\s?[`\]*\"']"
    rf"|(?<![\w./:\-])(?P<bare>{_NAME}/(?=[\w.\-]*[\d\-]){_NAME}+)(?!/?\w)",
    re.ASCII,
)
_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_FORMAT = re.compile(
    r"[-_.](?:[\d.]+-?bit|[\d.]+bpw|awq|exl2|exl3|fp8|ggml|gguf|gptq|int[48]|mlx|nvfp4|onnx|q\d)\b",
    re.IGNORECASE,
)
_SIZE = re.compile(r"[\d.x]+[bmk]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Named:
    """A repository that a sentence names, and where."""

    repo_id: str
    words: str
    start: int
    stop: int


def prose_parents(body: str, child: str) -> Iterator[tuple[Mention, str | None]]:
    """Repositories that the text of a card names as parents, with the relation it speaks of.

    The sentence (at most 1,000 characters) is the mention's context; code, comments, data sets and
    the model itself do not count. The first 300,000 characters are read.

    Parameters
    ----------
    body
        A card after its block of metadata.
    child
        Whose card it is.

    Examples
    --------
    >>> [(found.repo_id, relation) for found, relation in prose_parents(
    ...     "Fine-tuned from [Base](https://huggingface.co/a/base) on my data.", "me/child")]
    [('a/base', 'finetune')]
    """
    seen = {child.lower()}
    for named, relation, words in sentences_parents(body, child):
        key = named.repo_id.lower()
        if key not in seen and len(seen) <= _MAX_PARENTS:
            seen.add(key)
            yield Mention(named.repo_id, named.words, words), relation


def sentences_parents(body: str, child: str) -> Iterator[tuple[_Named, str | None, str]]:
    """Every naming of a parent, repeated ones too: what is named, relation, sentence."""
    announced: str | None = None  # the relation of the list that the last words announced
    under_heading = False
    for is_item, piece in _pieces(body[:MAX_PROSE_CHARACTERS]):
        is_heading = piece.startswith("#")
        if is_heading:
            heading = piece[:_MAX_HEADING_CHARACTERS]
            if _QUOTED.match(heading):
                return
            under_heading = _LIST_HEADING.match(heading) is not None
            announced = "merge" if under_heading else None
        if "/" in piece:
            found = list(_in_piece(piece, child))
            if not found and announced is not None and not is_heading:
                found = list(_in_list(piece, child, announced, is_item=is_item))
            yield from found
        if piece.endswith((":", ":**", ":__")) and not is_item:
            said = _last_trigger(piece)
            if said == "merge" or (said is not None and announced is None):
                announced = said
        elif not is_item and not under_heading and not is_heading:
            announced = None


def _pieces(body: str) -> Iterator[tuple[bool, str]]:
    """List items and paragraphs on one line each, without code and comments."""
    if "<!--" in body:
        body = _without_comments(body)
    fence = ""
    lines: list[str] = []
    is_item = False
    for line in body.split("\n"):
        stripped = line.strip().lstrip("> \t")
        if fence:
            if stripped.startswith(fence):
                fence = ""
            continue
        if not stripped:
            if lines:
                yield is_item, " ".join(lines)
                lines, is_item = [], False
            continue
        mark = stripped[0]
        if mark in "`~" and stripped.startswith(("```", "~~~")):
            fence = stripped[:3]
            starts_item, starts = False, True
            stripped = ""
        else:
            starts_item = not mark.isalpha() and _ITEM.match(stripped) is not None
            starts = starts_item or mark in "#|"
        if starts and lines:
            yield is_item, " ".join(lines)
            lines = []
        if stripped:
            is_item = starts_item if starts or not lines else is_item
            lines.append(stripped)
            if mark == "#":
                yield False, stripped
                lines = []
    if lines:
        yield is_item, " ".join(lines)


def _without_comments(body: str) -> str:
    """`body` without HTML comments; what a comment that never ends would hide is kept."""
    kept = []
    at = 0
    while (start := body.find("<!--", at)) >= 0 and (stop := body.find("-->", start)) >= 0:
        kept.append(body[at:start])
        at = stop + 3
    kept.append(body[at:])
    return " ".join(kept)


def _in_piece(piece: str, child: str) -> Iterator[tuple[_Named, str | None, str]]:
    """What the sentences of one paragraph or item name."""
    for sentence in _SENTENCE_END.split(piece[:_MAX_PIECE_CHARACTERS]):
        if "/" not in sentence:
            continue
        words = " ".join(sentence.split())[:MAX_SENTENCE_CHARACTERS]
        for named, relation in _in_sentence(words, child):
            yield named, relation, words


def _in_sentence(words: str, child: str) -> Iterator[tuple[_Named, str | None]]:
    names = list(_names(words))
    if not names or _CONDITION.match(words):
        return
    trigger = _TRIGGER.search(_small(words))
    if trigger is None:
        for named in names:
            said = _SAID_AFTER.match(words, named.stop)
            if said is not None and _may_be_parent(named, child):
                yield named, _relation(said)
                return
        return
    relation = _relation(trigger)
    if relation == "quantized" and _DESCENDANTS.search(words):
        return
    if _OTHER_SUBJECT.search(words, max(0, trigger.start() - 40), trigger.start()):
        return
    before = [named for named in names if named.stop <= trigger.start()]
    if (
        before
        and not _same(before[-1], child)
        and trigger.start() - before[-1].stop <= _MAX_WORDS_TO_SUBJECT
    ):
        return  # the sentence is about that model
    after = [named for named in names if named.stop > trigger.end()]
    at = trigger.end()
    for n, named in enumerate(after):
        if relation != "merge":
            near = named.start - at <= _MAX_WORDS_TO_PARENT
            if n == 0 and not near:
                return
            if n > 0 and not _CONNECTION.match(words[at : named.start]):
                return
        at = named.stop
        if _may_be_parent(named, child):
            yield named, relation


def _relation(trigger: re.Match[str]) -> str | None:
    return None if trigger.lastgroup == "plain" else trigger.lastgroup


def _in_list(
    piece: str, child: str, relation: str, *, is_item: bool
) -> Iterator[tuple[_Named, str | None, str]]:
    """The first model of an item in a list that words of descent announced, or a lone address."""
    words = " ".join(piece[:MAX_SENTENCE_CHARACTERS].split())
    names = list(_names(words))
    first = 0 if is_item else next((n for n, named in enumerate(names) if named.start == 0), -1)
    if not names or (first < 0 and names[-1].stop < len(words)):
        return
    for n, named in enumerate(names[first:]):
        if n > 0 and words[names[n - 1].stop : named.start].strip():
            return
        if _may_be_parent(named, child):
            yield named, None if relation == "plain" else relation, words


def _names(words: str) -> Iterator[_Named]:
    """The repositories that a sentence names; of a link its target counts, not its words."""
    for match in _MENTION.finditer(words):
        kind = match.lastgroup
        if kind == "target":
            written = match["target"]
            if not _ADDRESS.match(written):
                continue
        else:
            written = match[kind or "bare"].rstrip(".")
            if kind in ("marked", "bare") and _SIZE.fullmatch(written.partition("/")[0]):
                continue  # "(33b/65b)"
        repo_id = resolve_repo_id(written)
        if repo_id is not None and "/" in repo_id:
            yield _Named(repo_id, written, match.start(), match.end())


def _same(named: _Named, child: str) -> bool:
    return named.repo_id.lower() == child.lower()


def _may_be_parent(named: _Named, child: str) -> bool:
    """Neither the model itself nor one that its own name and a format make: ``…-GGUF``."""
    name, own = named.repo_id.rpartition("/")[2].lower(), child.rpartition("/")[2].lower()
    if name.startswith(own) and _FORMAT.match(name, len(own)):
        return False
    return not _same(named, child)


def _last_trigger(piece: str) -> str | None:
    """The relation of the words of descent in the sentence that ends with a colon."""
    last = None
    for match in _TRIGGER.finditer(_small(piece[-MAX_SENTENCE_CHARACTERS:])):
        last = match.lastgroup
    return last


def _small(words: str) -> str:
    """`words` in small letters, each letter where it was."""
    small = words.lower()
    return small if len(small) == len(words) else words.translate(_ASCII_SMALL)
