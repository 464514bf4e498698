"""Real text that any machine has after the installation, in domains, split into train and held out.

Nothing is downloaded and the text itself is never kept: only token ids, in a temporary folder.
"""

from __future__ import annotations

import ast
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = ["DOMAINS", "SPECIAL_TOKENS", "Corpus", "load_corpus", "train_tokenizer", "write_corpus"]

DOMAINS = ("python", "manual", "headers", "docstrings", "licences", "web")
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>",
    "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>", "<|reserved_3|>",
)  # fmt: skip

_TRAIN_CHARACTERS = 420_000
_HELD_OUT_CHARACTERS = 30_000
_HELD_OUT_ONE_IN = 8
_VOCABULARY = 448


@dataclass(frozen=True, slots=True)
class Corpus:
    """Token ids of every domain."""

    train: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]


def _site_packages() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")


def _python_documents() -> Iterator[str]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.glob("*.py")):
        yield from _pieces(_read(path))


def _manual_documents() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield from _pieces(topics[name])


def _header_documents() -> Iterator[str]:
    folder = _site_packages() / "torch" / "include"
    for part in ("ATen/core", "c10/core", "c10/util", "torch/csrc/autograd", "torch/csrc/api"):
        for path in sorted((folder / part).rglob("*.h")):
            yield from _pieces(_read(path))


def _docstring_documents() -> Iterator[str]:
    for package in ("networkx/algorithms", "numpy/lib", "scipy/signal", "scipy/linalg"):
        for path in sorted((_site_packages() / package).rglob("*.py")):
            if "tests" in path.parts:
                continue
            for node in ast.walk(ast.parse(_read(path))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    text = ast.get_docstring(node)
                    if text and len(text) > 300:
                        yield text


def _licence_documents() -> Iterator[str]:
    # Licences repeat one another: a paragraph is the unit, so that none is on both sides.
    for path in sorted(_site_packages().glob("*.dist-info/**/*")):
        if path.is_file() and any(
            word in path.name.upper() for word in ("LICEN", "NOTICE", "COPYING")
        ):
            for paragraph in _read(path).split("\n\n"):
                if len(paragraph) > 120:
                    yield paragraph.strip()


def _web_documents() -> Iterator[str]:
    folder = _site_packages() / "streamlit" / "static"
    for pattern in ("*.html", "*.css", "*.js"):
        for path in sorted(folder.rglob(pattern)):
            yield from list(_pieces(_read(path)))[:12]


def _pieces(text: str, length: int = 3000) -> Iterator[str]:
    for start in range(0, len(text), length):
        piece = text[start : start + length]
        if len(piece) > 200:
            yield piece


_SOURCES = {
    "python": _python_documents, "manual": _manual_documents, "headers": _header_documents,
    "docstrings": _docstring_documents, "licences": _licence_documents, "web": _web_documents,
}  # fmt: skip


def _split(documents: Iterable[str]) -> tuple[str, str]:
    unique = {" ".join(text.split()).lower(): text for text in documents}
    train: list[str] = []
    held_out: list[str] = []
    sizes = [0, 0]
    # A document's checksum decides its side and its turn, so the split is stable.
    for key, text in sorted(unique.items(), key=lambda item: zlib.crc32(item[0].encode())):
        side = int(zlib.adler32(key.encode()) % _HELD_OUT_ONE_IN == 0)
        limit = _HELD_OUT_CHARACTERS if side else _TRAIN_CHARACTERS
        if sizes[side] < limit:
            (held_out if side else train).append(text)
            sizes[side] += len(text)
    return "\n\n".join(train), "\n\n".join(held_out)


def train_tokenizer(texts: Iterable[str], path: Path) -> Tokenizer:
    """Train the family's byte-level BPE tokenizer and write it to `path`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(path), pretty=False)
    return tokenizer


def write_corpus(folder: Path) -> dict[str, int]:
    """Collect the text, train the tokenizer, write token ids; characters of training text each."""
    splits = {name: _split(_SOURCES[name]()) for name in DOMAINS}
    for name, (train, held_out) in splits.items():
        if len(train) < 100_000 or len(held_out) < 8_000:
            raise RuntimeError(f"too little text of the domain {name!r} is installed here")
    tokenizer = train_tokenizer((train for train, _ in splits.values()), folder / "tokenizer.json")
    arrays = {}
    for name, (train, held_out) in splits.items():
        arrays[f"train.{name}"] = np.array(tokenizer.encode(train).ids, dtype=np.int32)
        arrays[f"held_out.{name}"] = np.array(tokenizer.encode(held_out).ids, dtype=np.int32)
    np.savez(folder / "corpus.npz", allow_pickle=False, **arrays)
    return {name: len(train) for name, (train, _) in splits.items()}


def load_corpus(folder: Path) -> Corpus:
    """Read what `write_corpus` wrote."""
    with np.load(folder / "corpus.npz") as arrays:
        return Corpus(
            train={name: arrays[f"train.{name}"] for name in DOMAINS},
            held_out={name: arrays[f"held_out.{name}"] for name in DOMAINS},
        )
