"""Traits of a model as the Hub's records, its files' digests and its card state them. Pure.

``docs/traits.md`` defines every trait: unit, source field, missing value, caveats. Nothing here is
inferred: what no field states is None or empty, and numbers stay as they were stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crawler.card_shape import CardShape, card_shape
from crawler.licences import LICENCE_WORDS, read_licence
from crawler.quantisation import QUANTISATION_TAGS, quantisation_of, quantisation_of_tags
from crawler.records import FileEntry
from crawler.words import clean_word

__all__ = [
    "CardShape", "Facts", "card_shape", "context_length_of", "facts_of", "tokenizer_digest",
]  # fmt: skip

MAX_ITEMS = 100
"""Of longer lists the first are kept."""

_MAX_COUNT = 1 << 62
_MAX_CONTEXT = 1 << 27
_MAX_TAGS = 1_000

# The names that configurations give to the number of positions, the usual one first.
_CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length",
    "max_seq_length", "n_ctx", "model_max_length", "context_length", "max_target_positions",
)  # fmt: skip
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_CONTEXT_OR_PARTS = frozenset({*_CONTEXT_KEYS, *_TEXT_PARTS, "thinker_config"})

_LANGUAGES_WORDS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy "
    "da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht "
    "hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky "
    "la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny "
    "oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss "
    "st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo "
    "za zh zu multilingual"
)
_LANGUAGES = frozenset(_LANGUAGES_WORDS.split())
"""ISO 639-1; codes of three letters cannot be told from other tags (``act``, ``ner``)."""

_TASKS_WORDS = (
    "any-to-any audio-classification audio-text-to-text audio-to-audio "
    "automatic-speech-recognition depth-estimation document-question-answering "
    "feature-extraction fill-mask graph-ml image-classification image-feature-extraction "
    "image-segmentation image-text-to-image image-text-to-text image-text-to-video image-to-3d "
    "image-to-image image-to-text image-to-video keypoint-detection mask-generation "
    "object-detection question-answering reinforcement-learning robotics sentence-similarity "
    "summarization table-question-answering tabular-classification tabular-regression "
    "tabular-to-text text-classification text-generation text-ranking text-to-3d text-to-audio "
    "text-to-image text-to-speech text-to-video text2text-generation time-series-forecasting "
    "token-classification translation unconditional-image-generation video-classification "
    "video-text-to-text video-to-video visual-document-retrieval visual-question-answering "
    "voice-activity-detection zero-shot-classification zero-shot-image-classification "
    "zero-shot-object-detection"
)
_TASKS = frozenset(_TASKS_WORDS.split())
"""The Hub's tasks, which may also stand among the tags."""

_KNOWN_TAGS = _LANGUAGES | _TASKS | QUANTISATION_TAGS | {"gguf", "mlx", "safetensors"}

# Files at the root of a repository that alone identify a tokenizer, the most complete first.
_TOKENIZER_FILES = (
    ("tokenizer.json",), ("tokenizer.model",), ("tekken.json",), ("spiece.model",),
    ("sentencepiece.bpe.model",), ("vocab.json", "merges.txt"), ("vocab.txt",),
    ("qwen.tiktoken",), ("tiktoken.model",), ("vocab.model",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What one record of the Hub states about a model; None and () mean "not stated".

    Texts have at most 500 characters and tuples at most 100 items, each once. ``docs/traits.md``
    defines the fields.
    """

    licence: str | None
    licence_name: str | None
    languages: tuple[str, ...]
    tasks: tuple[str, ...]
    datasets: tuple[str, ...]
    architecture: str | None
    model_type: str | None
    parameters: int | None
    dtype: str | None
    context_length: int | None
    quantisation: str | None


def facts_of(record: Mapping[str, object]) -> Facts:
    """What a record of ``GET /api/models`` or of a model's details states.

    Parameters
    ----------
    record
        Keys that are read: ``tags``, ``pipeline_tag``, ``library_name``, ``cardData``, ``config``,
        ``safetensors``, ``gguf``. Values of the wrong type count as not stated.

    Examples
    --------
    >>> facts = facts_of({
    ...     "tags": ["en", "license:mit", "dataset:a/b"],
    ...     "pipeline_tag": "text-generation",
    ...     "safetensors": {"parameters": {"BF16": 10, "F32": 2}, "total": 12},
    ... })
    >>> facts.licence, facts.languages, facts.datasets, facts.parameters, facts.dtype
    ('MIT', ('en',), ('a/b',), 12, 'BF16')
    """
    get = record.get
    card = _mapping(get("cardData"))
    config = _mapping(get("config"))
    safetensors = _mapping(get("safetensors"))
    gguf = _mapping(get("gguf"))
    tags, lines = _texts(get("tags"))
    known = [tag for tag in tags if tag in _KNOWN_TAGS]
    licence, licence_name = _licence(card, lines)
    # A census reads millions of records: what is absent costs no call.
    parameters, dtype = _stored_values(safetensors) if safetensors else (None, None)
    architecture = model_type = length = None
    if config:
        architecture = _first_word(config.get("architectures"))
        model_type = clean_word(config.get("model_type"))
        length = context_length_of(config)
    if gguf:
        parameters = parameters or _count(gguf.get("total"))
        architecture = architecture or clean_word(gguf.get("architecture"))
        length = length or _length(gguf.get("context_length"))
    return Facts(
        licence,
        licence_name,
        _languages(card.get("language"), known),
        _tasks(get("pipeline_tag") or card.get("pipeline_tag"), known),
        _datasets(card.get("datasets"), lines),
        architecture,
        model_type,
        parameters,
        dtype,
        length,
        _quantisation(get("library_name"), config, known, bool(safetensors), bool(gguf)),
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> tuple[list[str], str]:
    """The texts of a list in order, and the same as one text: each after a line break."""
    if not isinstance(value, list):
        return [], ""
    texts: list[str] = value if len(value) <= _MAX_TAGS else value[:_MAX_TAGS]
    try:
        return texts, "\n" + "\n".join(texts)  # far quicker than a look at every item
    except TypeError:
        texts = [item for item in texts if isinstance(item, str)]
        return texts, "\n" + "\n".join(texts)


def _prefixed(lines: str, prefix: str) -> list[object]:
    """What follows `prefix` in the lines that begin with it; a tag of two lines reads as two."""
    if prefix not in lines:
        return []
    return [part.partition("\n")[0] for part in lines.split(f"\n{prefix}")[1:]]


def _licence(card: Mapping[str, object], lines: str) -> tuple[str | None, str | None]:
    """Word and name of the card's licence, else of the tags'."""
    stated = card.get("license")
    if not stated:
        tagged = _prefixed(lines, "license:")
        stated = tagged[0] if len(tagged) == 1 else tagged
    name = card.get("license_name")
    if type(stated) is str and stated in LICENCE_WORDS:
        return LICENCE_WORDS[stated], clean_word(name)
    licence = read_licence(stated, name, card.get("license_link"))
    return (licence.word, licence.name) if licence is not None else (None, None)


def _words(stated: object) -> list[str]:
    """The words of a list, or a word alone; an item may be a mapping with a name."""
    if isinstance(stated, str):
        word = clean_word(stated)
        return [word] if word is not None else []
    if not isinstance(stated, list):
        return []
    found = []
    for item in stated[:_MAX_TAGS]:
        named = item.get("name", item.get("id")) if isinstance(item, dict) else item
        word = clean_word(named)
        if word is not None:
            found.append(word)
    return found


def _each_once(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words) if len(words) < 2 else tuple(dict.fromkeys(words))[:MAX_ITEMS]


def _languages(stated: object, known: Sequence[str]) -> tuple[str, ...]:
    """The card's codes; those among the tags where the card states none."""
    words = _words(stated) if stated else []
    if not words:
        return _each_once([tag for tag in known if tag in _LANGUAGES])
    if "," in "".join(words):  # "en, fr" as one word
        words = [part for word in words for part in map(str.strip, word.split(",")) if part]
    return _each_once(words)


def _tasks(pipeline_tag: object, known: Sequence[str]) -> tuple[str, ...]:
    found = [tag for tag in known if tag in _TASKS]
    if len(found) == 1 and found[0] == pipeline_tag:
        return (found[0],)
    first = clean_word(pipeline_tag)
    return _each_once(found if first is None else [first, *found])


def _datasets(stated: object, lines: str) -> tuple[str, ...]:
    """The card's, then those that only tags name (the Hub makes a tag of each of the card's)."""
    tagged = _prefixed(lines, "dataset:")
    if not (tagged or stated):
        return ()
    return _each_once([*_words(stated), *_words(tagged)])


def _first_word(stated: object) -> str | None:
    return clean_word(stated[0]) if isinstance(stated, list) and stated else None


def _count(value: object) -> int | None:
    """A number of things; zero says that nothing was counted."""
    return value if type(value) is int and 0 < value < _MAX_COUNT else None


def _stored_values(safetensors: Mapping[str, object]) -> tuple[int | None, str | None]:
    """Number of stored values, and the dtype that most have; of equals the first stated."""
    best, most, known_sum = None, 0, 0
    for dtype, n in _mapping(safetensors.get("parameters")).items():
        if type(n) is int and 0 < n < _MAX_COUNT:
            known_sum += n
            if n > most:
                best, most = dtype, n
    return _count(safetensors.get("total")) or _count(known_sum), clean_word(best)


def _length(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _MAX_CONTEXT else None


def context_length_of(config: Mapping[str, object]) -> int | None:
    """Positions that a model's configuration states, of its text part where it has several parts.

    The number as stated: no factor of a ``rope_scaling`` is multiplied in, for some authors have
    already done it. Between 1 and 2^27, else None: larger ones stand for "no limit".

    Examples
    --------
    >>> context_length_of({"text_config": {"max_position_embeddings": 262144}, "vision_config": {}})
    262144
    """
    if _CONTEXT_OR_PARTS.isdisjoint(config):  # most excerpts of a listing
        return None
    parts = [config, *(_mapping(config.get(name)) for name in _TEXT_PARTS)]
    parts.append(_mapping(_mapping(config.get("thinker_config")).get("text_config")))
    stated = (_length(part.get(key)) for part in parts for key in _CONTEXT_KEYS)
    return next((length for length in stated if length is not None), None)


def _quantisation(
    library: object,
    config: Mapping[str, object],
    known: Sequence[str],
    has_safetensors: bool,
    has_gguf: bool,
) -> str | None:
    """By the configuration, else ``gguf`` where that is the only format, else by the tags."""
    stated = quantisation_of(config) if config else None
    is_mlx = library == "mlx" or "mlx" in known
    if stated is not None:
        return f"mlx-{stated}" if is_mlx and stated[0].isdigit() else stated
    if (has_gguf or "gguf" in known) and not (has_safetensors or "safetensors" in known):
        return "gguf"
    if QUANTISATION_TAGS.isdisjoint(known):
        return None
    return quantisation_of_tags(known, is_mlx=is_mlx)


def tokenizer_digest(files: Sequence[FileEntry]) -> str | None:
    """Identity of a repository's tokenizer: which files, and the digests that the Hub states.

    The first of these at the root whose files all have a digest counts: ``tokenizer.json``,
    ``tokenizer.model``, ``tekken.json``, SentencePiece models, ``vocab.json`` with ``merges.txt``,
    ``vocab.txt``, tiktoken files. Equal texts mean equal files. Unequal texts mean unequal
    tokenizers only where they name the same files. The chat template is not part of it.

    Returns
    -------
    str or None
        ``<file>:<sha256>``, or ``<file>:git:<object id>`` of a file outside large-file storage,
        several joined by spaces; None where no such file has a digest, as for repositories with
        GGUF files alone.

    Examples
    --------
    >>> tokenizer_digest([FileEntry("tokenizer.json", 5, "ab" * 32)])[:20]
    'tokenizer.json:ababa'
    """
    digests = {
        file.path: file.sha256 or f"git:{file.blob_id}"
        for file in files
        if file.sha256 is not None or file.blob_id is not None
    }
    for names in _TOKENIZER_FILES:
        if all(name in digests for name in names):
            return " ".join(f"{name}:{digests[name]}" for name in names)
    return None
