"""Anchors: tokens that nearly every vocabulary holds, found again by their text. Data.

Rows of an embedding are aligned by token, never by number, so rows of tokens that all tokenizers
share are worth reading. A leading space means that the token begins a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ANCHORS_VERSION", "TIERS", "Tier"]

ANCHORS_VERSION = "anchors-1"
"""Which rows are chosen for one vocabulary is fixed under one version."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Anchors of one kind, and how many rows are read for them.

    Attributes
    ----------
    tokens
        Normalised text of the tokens.
    window_rows
        Longest run of neighbouring rows. All rows of a run are read, those between the anchors
        too: a run is one request, and every row has its token's text.
    windows
        Runs at most.
    """

    tokens: frozenset[str]
    window_rows: int
    windows: int


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CHARACTERS = "0123456789" + _LETTERS.upper() + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\n"
# The commonest words, and the pieces of words that every tokenizer of English learns first.
_WORDS = """
a about after all also an and any are as at be been but by can could do first for from get had has
have he her his how i if in into is it its like may me more most new no not now of on one only or
other our out over she so some such than that the their them then there these they this time to two
up use was we were what when which who will with would year you your
"""
_PIECES = """
ab ac ad ag ain al all am an and ant ap ar art as ast at ate ation ay ce ch ct ec ed el em en ent
er ers es ess est et ew for ge he ic id ie if ig igh il im in ing ion ir is ist it ith iv ive ke ld
le ly ment nd nt od ol om on op or os ot ou oun our out ow pe per pl pro qu ra re res ri ro se st th
ter ud ul um un ur us ut ve ver
"""


def _both(tokens: Iterable[str]) -> frozenset[str]:
    """Each token inside a word, and beginning one: vocabularies of whole words know only these."""
    inside = frozenset(tokens)
    return inside | {f" {token}" for token in inside}


TIERS = (
    Tier(_both(_LETTERS), 26, 1),
    Tier(_both(_CHARACTERS), 32, 2),
    Tier(_both({*_WORDS.split(), *_PIECES.split(), *_LETTERS}), 32, 2),
)
"""The most wanted first."""
