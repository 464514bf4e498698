"""Models with the same words or files, found by hashing: linear in their number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import networkx as nx

from lineage.weights.fingerprint import Fingerprint

__all__ = ["equal_models", "equal_words"]


def equal_words(fingerprints: Iterable[Fingerprint]) -> list[list[str]]:
    """Sets of models whose samples are the same to the bit, single models too.

    Same means: the same tensors, number types, shapes and rows, the same stored words and the
    same scales. Sets come in the order of their first models, and so do the models of a set.
    """
    sets: dict[bytes, list[str]] = {}
    for one in fingerprints:
        sets.setdefault(_digest(one), []).append(one.repo_id)
    return list(sets.values())


def equal_models(fingerprints: Iterable[Fingerprint]) -> list[list[str]]:
    """Sets of at least two models with the same samples, or the same sha256 of all their files.

    A model without samples and files is nobody's copy.
    """
    models = list(fingerprints)
    same = nx.utils.UnionFind(one.repo_id for one in models)
    by_files: dict[tuple[str, ...], str] = {}
    for one in models:
        if one.file_digests:
            same.union(by_files.setdefault(one.file_digests, one.repo_id), one.repo_id)
    for twins in equal_words(one for one in models if one.samples):
        same.union(*twins)
    return [sorted(twins) for twins in same.to_sets() if len(twins) > 1]


def _digest(fingerprint: Fingerprint) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for key, sample in sorted(fingerprint.samples.items()):
        about = (
            key, sample.dtype, sample.shape, sample.rows, sample.transposed, sample.shift,
            len(sample.words), [(name, len(part)) for name, part in sorted(sample.extras.items())],
        )  # fmt: skip
        digest.update(repr(about).encode("utf-8", "surrogatepass"))
        digest.update(sample.words)
        for _, part in sorted(sample.extras.items()):
            digest.update(part)
    return digest.digest()
