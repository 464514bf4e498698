"""Settings of a register: numbers that its keeper may change. Parsed here, read by the shell."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields

from lineage.errors import HerdbookError

__all__ = ["CrawlSettings", "GuardSettings", "Settings", "parse_settings"]


@dataclass(frozen=True, slots=True)
class CrawlSettings:
    """How much of a Hub one run reads.

    Attributes
    ----------
    details_limit
        Repositories whose details one run reads when nothing narrows it down.
    check_pages
        Pages of 1,000 models that one run re-checks for what vanished or changed unseen: at the
        default a Hub of three million is gone through once in thirty nights.
    missing_limit
        Repositories that one run looks up because a walk did not list them.
    recheck_days
        Days after which a repository that could not be read is tried again.
    overlap_minutes
        An increment goes back so far behind the latest change that was listed.
    threads
        Requests for details under way at once; the Hub's budgets bound their rate.
    batch_pages
        Pages that are entered in one transaction: more than 123,000 models at once are written
        straight into the database, which is twice as fast as through its log.
    """

    details_limit: int = 10_000
    check_pages: int = 100
    missing_limit: int = 1_000
    recheck_days: float = 1.0
    overlap_minutes: float = 60.0
    threads: int = 8
    batch_pages: int = 125


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What share a publication may lose against the one before it; more is refused.

    Attributes
    ----------
    lost_models
        Share of the models that can be read.
    lost_metadata
        Share of the models with a licence, a task, tags, parameters or a declared parent, each
        counted apart.
    few
        Losses of so few models are never refused.
    """

    lost_models: float = 0.05
    lost_metadata: float = 0.10
    few: int = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; ``settings.toml`` in the home changes some."""

    crawl: CrawlSettings = field(default_factory=CrawlSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)


def parse_settings(text: str) -> Settings:
    r"""Settings from TOML with the tables ``crawl`` and ``guard``; what is not there is default.

    Raises
    ------
    HerdbookError
        If the text is no TOML, or names or values cannot be used; the message says which can.

    Examples
    --------
    >>> parse_settings("[crawl]\ncheck_pages = 5").crawl.check_pages
    5
    """
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HerdbookError(f"settings.toml is no TOML: {error}") from error
    known = {"crawl": CrawlSettings, "guard": GuardSettings}
    found: dict[str, object] = {}
    for table, values in stated.items():
        if table not in known or not isinstance(values, dict):
            raise HerdbookError(f"settings.toml: no table [{table}]; there are {sorted(known)}")
        defaults = {item.name: item.default for item in fields(known[table])}
        for name, value in values.items():
            if name not in defaults:
                raise HerdbookError(
                    f"settings.toml: no setting {name!r} in [{table}]; there are {sorted(defaults)}"
                )
            whole = isinstance(defaults[name], int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                kind = "a whole number" if whole else "a number"
                raise HerdbookError(f"settings.toml: {table}.{name} must be {kind}")
            if value < 0 or (name in {"threads", "batch_pages"} and value < 1):
                raise HerdbookError(f"settings.toml: {table}.{name} is too small: {value}")
        found[table] = known[table](**values)
    # The names are those of the tables, each with its own class.
    return Settings(**found)  # type: ignore[arg-type]
