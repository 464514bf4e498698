"""The traits of models, each declared once: type, unit, direction, source.

A *constitutive* trait is copied by the act of deriving a model: a fine-tune has its parent's size
and architecture by construction, so that its resemblance to the parent is bookkeeping. An
*expressed* trait could have come out otherwise. What the Hub's records state is listed in
:data:`STATED`; evaluation results are declared as they are met, by :func:`evaluation_trait`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["STATED", "Trait", "TraitType", "evaluation_trait", "stated_trait"]


class TraitType(StrEnum):
    """What kind of values a trait has, which decides how its inheritance is measured."""

    NUMERIC = "numeric"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    """One value of several without order, or a set of them (languages)."""
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Trait:
    """A declared trait.

    Attributes
    ----------
    unit
        Unit of numeric values; what the values are otherwise.
    higher_is_better
        None where neither end is better, or where nobody said.
    is_constitutive
        Whether derivation copies it by construction.
    source
        Where values come from.
    """

    name: str
    type: TraitType
    unit: str
    higher_is_better: bool | None
    is_constitutive: bool
    source: str
    is_evaluation: bool = False
    """Whether it is a score on test data."""


_RECORD = "the Hub's record"
_CARD = "the model card"

STATED = (
    Trait("log10 parameters", TraitType.NUMERIC, "log10 of stored values", None, True, _RECORD),
    Trait("log10 context length", TraitType.NUMERIC, "log10 of tokens", None, True, "config.json"),
    Trait("card length", TraitType.NUMERIC, "log10 of characters + 1", None, False, _CARD),
    Trait("card completeness", TraitType.NUMERIC, "share of 13 items", True, False, _CARD),
    Trait("gated", TraitType.BINARY, "1: access is asked for", None, False, _RECORD),
    Trait("licence", TraitType.CATEGORICAL, "SPDX id or the Hub's word", None, False, _RECORD),
    Trait("licence class", TraitType.CATEGORICAL, "class of licences", None, False, _RECORD),
    Trait("languages", TraitType.CATEGORICAL, "set of language codes", None, False, _RECORD),
    Trait("task", TraitType.CATEGORICAL, "pipeline_tag", None, False, _RECORD),
    Trait("library", TraitType.CATEGORICAL, "library_name", None, False, _RECORD),
    Trait("data sets", TraitType.CATEGORICAL, "set of data sets", None, False, _RECORD),
    Trait("architecture", TraitType.CATEGORICAL, "class in config.json", None, True, _RECORD),
    Trait("number type", TraitType.CATEGORICAL, "dtype of most values", None, False, _RECORD),
    Trait("tokenizer", TraitType.CATEGORICAL, "digest of its files", None, True, _RECORD),
    Trait("card", TraitType.TEXT, "README.md below its metadata", None, False, _CARD),
)
"""Traits that records and files state (``docs/traits.md`` defines the fields)."""

_BY_NAME = {trait.name: trait for trait in STATED}


def stated_trait(name: str) -> Trait:
    """The declaration of a stated trait.

    Raises
    ------
    KeyError
        If no trait of that name is stated by records.
    """
    return _BY_NAME[name]


def evaluation_trait(name: str, metric: str, higher_is_better: bool | None, source: str) -> Trait:
    """The declaration of an evaluation result, an expressed numeric trait.

    Examples
    --------
    >>> evaluation_trait("loss/python", "cross_entropy", False, "card").unit
    'cross_entropy'
    """
    return Trait(name, TraitType.NUMERIC, metric, higher_is_better, False, source, True)
