"""Vocabularies: which row of an embedding belongs to which token, as comparable text. Pure.

Tokenizers write one token in different ways. Here every token has one normal form:

* bytes that are UTF-8 are that text; a token that begins a word begins with a space, whether its
  vocabulary says ``Ġthe`` (byte-level BPE), ``▁the`` (sentencepiece) or ``the`` against ``##ing``
  (WordPiece);
* bytes that are no text stand as ``<0xE4>`` each, as sentencepiece writes its byte tokens.

Files come from strangers: what they may hold is bounded, and single entries that make no sense
(numbers out of range, numbers used twice, endless tokens) are passed over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from crawler.errors import MalformedError
from lineage.weights.anchors import ANCHORS_VERSION, TIERS, Tier

__all__ = [
    "ANCHORS_VERSION",
    "Vocabulary",
    "anchor_rows",
    "parse_vocabulary",
    "vocabulary_of",
]

_MAX_FILE_BYTES = 128 << 20
_MAX_TOKENS = 1 << 21
_MAX_TOKEN_CHARACTERS = 1 << 10
_MAX_JSON_VALUES = 8_000_000  # a vocabulary of 256,000 tokens with its merges has 2 million
_MIN_DENSITY = 3
"""A window holds at least one anchor in so many rows."""
_MIN_ANCHORS = 4
"""A window with fewer is not worth a request."""


@dataclass(frozen=True)
class Vocabulary:
    """Normalised text of the tokens, by row."""

    tokens: Mapping[int, str]

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of every text; of several the first."""
        found: dict[str, int] = {}
        for row in sorted(self.tokens, reverse=True):
            found[self.tokens[row]] = row
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of rows and texts: equal for one vocabulary in whatever file it came."""
        digest = hashlib.sha256()
        for row in sorted(self.tokens):
            text = self.tokens[row].encode("utf-8", "surrogatepass")
            digest.update(b"%d:%d:%b," % (row, len(text), text))
        return digest.hexdigest()


def parse_vocabulary(path: str, data: bytes) -> Vocabulary:
    """The vocabulary in a tokenizer's file; its name says how to read it.

    Parameters
    ----------
    path
        Ends in ``tokenizer.json``, ``vocab.json``, ``vocab.txt`` or ``tokenizer.model``.
    data
        The whole file.

    Raises
    ------
    MalformedError
        If the name is none of these, or the file is too long, holds too many tokens, no tokens,
        or is not what its name says.
    """
    name = path.rsplit("/", 1)[-1]
    read = _PARSERS.get(name)
    if read is None:
        raise MalformedError(f"{path}: not a file of a vocabulary that can be read")
    if len(data) > _MAX_FILE_BYTES:
        raise MalformedError(f"{path}: {len(data)} bytes are too many for a vocabulary")
    tokens = _sound(read(data, path), path)
    if not tokens:
        raise MalformedError(f"{path}: holds no tokens")
    return Vocabulary(_normalised(tokens))


def vocabulary_of(tokens: Sequence[str]) -> Vocabulary:
    r"""The vocabulary of a list of tokens as GGUF files hold it (``tokenizer.ggml.tokens``).

    Raises
    ------
    MalformedError
        If there are too many tokens, or none.

    Examples
    --------
    >>> dict(vocabulary_of(["!", "Ġthe", "ĊĊ", "ä"]).tokens)
    {0: '!', 1: ' the', 2: '\n\n', 3: '<0xE4>'}
    """
    found = _sound(enumerate(tokens), "token list")
    if not found:
        raise MalformedError("token list: holds no tokens")
    return Vocabulary(_normalised(found))


def anchor_rows(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Rows to read as anchors, the most wanted first, in few runs of neighbouring rows.

    For each tier of anchors the densest windows of rows are taken whole; ties go to the shorter
    window, then to the lower row. A window with fewer than four anchors, or with fewer than one in
    three rows, is not taken, nor is one that overlaps another.

    Examples
    --------
    >>> anchor_rows(vocabulary_of(["<s>", "a", "b", "c", "ü", "d", "▁the", "▁of", "▁in", "▁and"]))
    (1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    chosen: dict[int, None] = {}
    for tier in TIERS:
        wanted = {row for token in tier.tokens if (row := vocabulary.rows.get(token)) is not None}
        for _ in range(tier.windows):
            window = _densest(sorted(wanted), tier, chosen)
            if window is None:
                break
            rows = [row for row in range(*window) if row in vocabulary.tokens]
            chosen.update(dict.fromkeys(rows))
            wanted.difference_update(rows)
    return tuple(chosen)


def _densest(
    wanted: Sequence[int], tier: Tier, taken: Mapping[int, None]
) -> tuple[int, int] | None:
    """The window with the most wanted rows, as a half-open range."""
    best: tuple[tuple[int, int, int], tuple[int, int]] | None = None
    for i, first in enumerate(wanted):
        for j in range(i, len(wanted)):
            n_rows = wanted[j] - first + 1
            if n_rows > tier.window_rows or wanted[j] in taken:
                break
            n_anchors = j - i + 1
            if n_anchors < _MIN_ANCHORS or _MIN_DENSITY * n_anchors < n_rows:
                continue
            rank = (-n_anchors, n_rows, first)
            if best is None or rank < best[0]:
                best = rank, (first, wanted[j] + 1)
    return best[1] if best else None


_Found = Iterable[tuple[object, object]]
"""Rows and tokens as a file states them."""


def _sound(found: _Found, path: str) -> dict[int, str]:
    """What of it can be rows and tokens; of two tokens in one row the first counts."""
    tokens: dict[int, str] = {}
    for row, token in found:
        if type(row) is not int or not 0 <= row < _MAX_TOKENS or not isinstance(token, str):
            continue
        if len(token) <= _MAX_TOKEN_CHARACTERS:
            tokens.setdefault(row, token)
    return tokens


def _of_tokenizer_json(data: bytes, path: str) -> _Found:
    whole = _json_object(data, path)
    model = whole.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    found: list[tuple[object, object]] = []
    if isinstance(vocab, dict):
        found += [(row, token) for token, row in vocab.items()]
    elif isinstance(vocab, list):  # Unigram: [token, score] each
        found += [
            (row, pair[0]) for row, pair in enumerate(vocab) if isinstance(pair, list) and pair
        ]
    else:
        raise MalformedError(f"{path}: no model.vocab")
    added = whole.get("added_tokens")
    if isinstance(added, list):
        found += [(t.get("id"), t.get("content")) for t in added if isinstance(t, dict)]
    return found


def _of_vocab_json(data: bytes, path: str) -> _Found:
    return [(row, token) for token, row in _json_object(data, path).items()]


def _of_vocab_txt(data: bytes, path: str) -> _Found:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{path}: not UTF-8: {error}") from error
    if text.count("\n") > _MAX_TOKENS:
        raise MalformedError(f"{path}: more than {_MAX_TOKENS} tokens")
    # Not splitlines: other separators of lines are tokens of multilingual vocabularies.
    lines = text.removesuffix("\n").split("\n")
    return enumerate(line.removesuffix("\r") for line in lines)


def _of_tokenizer_model(data: bytes, path: str) -> _Found:
    """Sentencepiece's protobuf, or the ranks of tiktoken, which share the name."""
    first = data[: data.find(b"\n", 0, 2048) + 1].split()
    if len(first) == 2 and first[1].isdigit():
        return _of_ranks(data, path)
    return _of_sentencepiece(data, path)


def _of_ranks(data: bytes, path: str) -> _Found:
    """Lines of base64 and rank."""
    if data.count(b"\n") > _MAX_TOKENS:
        raise MalformedError(f"{path}: more than {_MAX_TOKENS} tokens")
    found: list[tuple[object, object]] = []
    for line in data.split(b"\n"):
        words = line.split()
        if len(words) != 2 or not words[1].isdigit() or len(words[1]) > 9:
            continue
        try:
            token = base64.b64decode(words[0], validate=True)
        except binascii.Error as error:
            raise MalformedError(f"{path}: a token is not base64: {error}") from error
        # In the alphabet of byte-level BPE, which is what these are.
        found.append((int(words[1]), "".join(_ALPHABET[byte] for byte in token)))
    return found


def _of_sentencepiece(data: bytes, path: str) -> _Found:
    """Pieces of a ``ModelProto``: its field 1, each with its text in field 1, in order."""
    found: list[tuple[object, object]] = []
    for number, start, stop in _fields(data, 0, len(data), path):
        if number != 1:
            continue
        if len(found) >= _MAX_TOKENS:
            raise MalformedError(f"{path}: more than {_MAX_TOKENS} tokens")
        piece: object = None
        for inner, first, last in _fields(data, start, stop, path):
            if inner == 1:
                try:
                    piece = data[first:last].decode("utf-8")
                except UnicodeDecodeError:
                    piece = None  # keeps its row
                break
        found.append((len(found), piece))
    return found


def _fields(data: bytes, at: int, stop: int, path: str) -> Iterable[tuple[int, int, int]]:
    """Number and content of every field of a protobuf message that has bytes as its content."""
    while at < stop:
        tag, at = _varint(data, at, stop, path)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, at = _varint(data, at, stop, path)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            length, at = _varint(data, at, stop, path)
            if length > stop - at:
                raise MalformedError(f"{path}: a field ends beyond the file")
            yield number, at, at + length
            at += length
        else:
            raise MalformedError(f"{path}: not a sentencepiece model")
    if at > stop:
        raise MalformedError(f"{path}: a field ends beyond the file")


def _varint(data: bytes, at: int, stop: int, path: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            raise MalformedError(f"{path}: ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError(f"{path}: a number has more than ten bytes")


def _json_object(data: bytes, path: str) -> Mapping[str, object]:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_JSON_VALUES:
        raise MalformedError(f"{path}: more than {_MAX_JSON_VALUES} values")
    try:
        value = orjson.loads(data)  # refuses deep nesting and what is not UTF-8
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"{path}: not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: a {type(value).__name__}, not an object")
    return value


_PARSERS = {
    "tokenizer.json": _of_tokenizer_json,
    "vocab.json": _of_vocab_json,
    "vocab.txt": _of_vocab_txt,
    "tokenizer.model": _of_tokenizer_model,
}


def _alphabet() -> dict[int, str]:
    """The letter of every byte in byte-level BPE, as GPT-2 chose them.

    Printable letters of Latin-1 stand for themselves; the other bytes are numbered from U+0100 on.
    """
    letters = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in letters)
    return {byte: chr(byte) for byte in letters} | {
        byte: chr(0x100 + at) for at, byte in enumerate(others)
    }


_ALPHABET = _alphabet()
_AS_LATIN_1 = {ord(letter): byte for byte, letter in _ALPHABET.items()}


def _normalised(tokens: Mapping[int, str]) -> dict[int, str]:
    """Tokens in normal form; most tokens' marks tell which convention the vocabulary follows."""
    marks = {mark: sum(t.startswith(mark) for t in tokens.values()) for mark in ("Ġ", "▁", "##")}
    mark = max(marks, key=lambda m: marks[m])
    if not marks[mark]:
        return dict(tokens)
    normal = {"Ġ": _of_byte_level, "▁": _of_piece, "##": _of_word_piece}[mark]
    return {row: normal(token) for row, token in tokens.items()}


def _of_byte_level(token: str) -> str:
    if token.isascii():
        return token
    if token[0] == "Ġ" and token[1:].isascii():
        return f" {token[1:]}"
    try:
        data = token.translate(_AS_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return token  # an added token, written as it is
    if any(ord(letter) not in _AS_LATIN_1 for letter in token):
        return token
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)


def _of_piece(token: str) -> str:
    return token.replace("▁", " ")


def _of_word_piece(token: str) -> str:
    if token.startswith("##"):
        return token[2:]
    is_special = token.startswith("[") and token.endswith("]") and len(token) > 2
    return token if is_special else f" {token}"
