"""Errors that the user of a command can act upon.

::

    HerdbookError           one clear sentence, printed before exiting with `exit_code`
    ├── UsageError          2: the arguments do not make sense together
    ├── NotFoundError       3: unknown model, file or database
    ├── HomeError           4: the home folder cannot be used
    ├── SchemaError         5: a database or fingerprint of another version
    ├── IncomparableError   6: two fingerprints of different schemes
    └── NoRecipeError       8: the weights prove no recipe of this model
"""

from __future__ import annotations

__all__ = [
    "HerdbookError",
    "HomeError",
    "IncomparableError",
    "NoRecipeError",
    "NotFoundError",
    "SchemaError",
    "UsageError",
]


class HerdbookError(Exception):
    """Base of all errors that are the user's to mend."""

    exit_code = 1


class UsageError(HerdbookError):
    """The arguments do not make sense together."""

    exit_code = 2


class NotFoundError(HerdbookError):
    """An unknown model, file or database."""

    exit_code = 3


class HomeError(HerdbookError):
    """The home folder cannot be used."""

    exit_code = 4


class SchemaError(HerdbookError):
    """A database or fingerprint of another version."""

    exit_code = 5


class IncomparableError(HerdbookError):
    """Two fingerprints of different schemes; names the parameter that differs."""

    exit_code = 6


class NoRecipeError(HerdbookError):
    """The weights prove no recipe of this model; says what they do show."""

    exit_code = 8
