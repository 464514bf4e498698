"""A population of simulated models, each a pure function of (seed, index, version).

Indices are in the order of creation. Nothing is kept per model: every property is a hash of the
index, computed for a whole page at once, so a page of any order costs the same.

A model is a bootstrap draw of a real row (:mod:`benchmarks.hub_rows`). Its parents are earlier
models by the copying form of preferential attachment [1]_: with the share that radar shows of
parents named for the first time, a model names any earlier one; else what another model named.

References
----------
.. [1] Kleinberg, J. M. et al. (1999). The web as a graph: measurements, models, and methods.
   COCOON '99, LNCS 1627, 1-17.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.hub_cards import cards
from benchmarks.hub_draws import Draws, Ints
from benchmarks.hub_names import CAPACITY, Names
from benchmarks.hub_rows import (
    Lookups,
    Row,
    dump_row,
    find_licence,
    find_own_tags,
    find_parents,
    load_row,
    read_lookups,
    read_rows,
)
from benchmarks.hub_templates import Template, compile_template

__all__ = ["CAPACITY", "FLOOR_S", "Population", "cards"]

FLOOR_S = 1_646_263_744  # 2022-03-02T23:29:04Z: what the Hub says of everything older
DAY_S = 86_400
_FLOOR_SHARE = 0.02
# The Hub had about 1 M models in September 2024, 2 M in August 2025 and 3 M in August 2026: the
# count grows about as this power of the time since the floor.
_GROWTH = 1.8
_MISSING_SHARE = 0.04
_MAX_ATTEMPTS = 16
_DISABLED_ONE_IN = 5_000


class Population:
    """`n_models` simulated models, drawn from real rows.

    Parameters
    ----------
    rows, lookups
        As :mod:`benchmarks.hub_rows` reads them.
    n_models
        How many exist at first; :meth:`grow` adds more, :data:`CAPACITY` is the most.
    seed
        Everything is decided by it.

    Raises
    ------
    ValueError
        `n_models` is not in 1 … :data:`CAPACITY`, or the rows have too few words for names.
    """

    def __init__(self, rows: Sequence[Row], lookups: Lookups, n_models: int, seed: int) -> None:
        if not 1 <= n_models <= CAPACITY:
            raise ValueError(f"the number of models must be in 1 … {CAPACITY}, not {n_models}")
        self._draws = Draws(seed)
        self.n_founding = n_models
        self.end_s = max(row.created_s for row in rows)
        self._arrivals = [0, n_models]  # the first index of each day, and the next one to come
        self._lookups = lookups
        self._rows = [dump_row(row) for row in rows]
        self._names = Names(rows, self._draws, n_models)
        self._templates: dict[frozenset[str], list[Template | None]] = {}

        parents = [find_parents(row) for row in rows]
        own = [
            [name == row.repo_id for name in named]
            for named, row in zip(parents, rows, strict=True)
        ]
        self._named = [[_json_text(name) for name in names] for names in parents]
        self._n_parents = np.array([len(names) for names in parents])
        self._first_slot = np.cumsum(self._n_parents) - self._n_parents
        self._is_self = np.array([is_self for row_own in own for is_self in row_own], bool)
        self._first_is_other = np.array([bool(row_own) and not row_own[0] for row_own in own])
        counts = Counter(name for names in parents for name in names)
        self._new_parent_share = len(counts) / max(1, counts.total())

        self._lag_s = np.array([max(0, row.modified_s - row.created_s) for row in rows])
        self._downloads = np.array([row.downloads_30d for row in rows])
        self._likes = np.array([row.likes for row in rows])
        licences = [find_licence(row) for row in rows]
        self._licence_tags = [_json_text(lic[0]) if lic else b"" for lic in licences]
        self._licence_cards = [orjson.dumps(lic[1])[1:-1] if lic else b"" for lic in licences]
        self._licensed = np.flatnonzero(np.array([lic is not None for lic in licences]))
        self._tags = [frozenset(row.tags) for row in rows]
        self._own_tags = [tag for row in rows for tag in find_own_tags(row)]

    @classmethod
    def learn(cls, shared_data: Path, n_models: int, seed: int) -> Population:
        """Learn from the data beside the project.

        Raises
        ------
        MissingDataError
            It is not there.
        """
        rows = read_rows(shared_data)
        return cls(rows, read_lookups(shared_data, rows), n_models, seed)

    @property
    def n_models(self) -> int:
        """How many models ever existed, the deleted ones included."""
        return self._arrivals[-1]

    @property
    def n_days(self) -> int:
        """How many days have passed since the founding."""
        return len(self._arrivals) - 2

    def grow(self, n_new: int) -> None:
        """Let a day pass in which `n_new` models are created.

        Raises
        ------
        ValueError
            That would be more than :data:`CAPACITY`.
        """
        if self.n_models + n_new > CAPACITY:
            raise ValueError(f"the simulated Hub holds at most {CAPACITY} models")
        self._arrivals.append(self.n_models + n_new)

    def row(self, number: int) -> Row:
        """A row that models are drawn from."""
        return load_row(self._rows[number])

    def row_numbers(self, index: Ints) -> Ints:
        """Which row each model is drawn from."""
        return self._draws.below("row", len(self._rows), index)

    def created(self, index: Ints) -> Ints:
        """Seconds of creation; they never fall as the index grows."""
        n_floor = int(self.n_founding * _FLOOR_SHARE)
        jitter = self._draws.share("created", index)
        age = np.clip((index - n_floor + jitter) / (self.n_founding - n_floor), 0, 1)
        founding = FLOOR_S + (self.end_s - FLOOR_S) * age ** (1 / _GROWTH)
        day = self._day_of(index)
        bounds = np.array(self._arrivals)
        n_in_day = np.maximum(1, np.diff(bounds)[day])
        later = self.end_s + DAY_S * (day - 1 + (index - bounds[day] + jitter) / n_in_day)
        return np.where(day == 0, founding, later).astype(np.int64)

    def _day_of(self, index: Ints) -> Ints:
        return np.searchsorted(np.array(self._arrivals), index, side="right").astype(np.int64) - 1

    def modified(self, index: Ints, version: Ints) -> Ints:
        """Seconds of the last change; a version is the day on which it was made, 0 for none."""
        created = self.created(index)
        quiet = created + self._lag_s[self.row_numbers(index)]
        quiet = np.minimum(quiet, self.end_s + DAY_S * self._day_of(index))
        changed = (
            self.end_s + DAY_S * (version - 1) + self._draws.below("time", DAY_S, index, version)
        )
        return np.maximum(created, np.where(version == 0, quiet, changed))

    def parents(self, index: Ints, which: Ints) -> Ints:
        """The index of each model's parent number `which`; -1 where the parent does not exist.

        A parent is always earlier than its child. Where the row names itself, so does the model.
        """
        is_self = self._is_self[self._first_slot[self.row_numbers(index)] + which]
        is_missing = self._is_missing(index, which)
        found = index.copy()
        waiting = np.flatnonzero(~is_self & ~is_missing)
        asked, asked_which = index[waiting], which[waiting]
        attempt = np.zeros_like(asked)
        while len(waiting):
            # Mild preference for recent models.
            draw = self._draws.share("parent", asked, asked_which, attempt) ** 0.5
            target = (asked * draw).astype(np.int64)
            first = np.zeros_like(target)
            copies = self._draws.share("copy", asked, asked_which) >= self._new_parent_share
            # Only the first parent is copied: several from one model would be the same.
            copies &= (asked_which == 0) & (attempt < _MAX_ATTEMPTS)
            can_copy = self._first_is_other[self.row_numbers(target)]
            can_copy &= ~self._is_missing(target, first)
            found[waiting[~copies]] = target[~copies]
            # What another model named; where that one names nobody, look for another one.
            asked = np.where(can_copy, target, asked)[copies]
            attempt = np.where(can_copy, 0, attempt + 1)[copies]
            waiting, asked_which = waiting[copies], asked_which[copies]
        return np.where(is_self, index, np.where(is_missing, -1, found))

    def _is_missing(self, index: Ints, which: Ints) -> NDArray[np.bool_]:
        # The first model of all has no earlier one.
        is_missing: NDArray[np.bool_] = index == 0
        is_missing |= self._draws.share("missing", index, which) < _MISSING_SHARE
        return is_missing

    def ids(self, index: Ints) -> list[bytes]:
        """Each model's id; all are different, in lower case too."""
        owners, names = self._names.owners_and_names(index, self.row_numbers(index))
        return [owner + b"/" + name for owner, name in zip(owners, names, strict=True)]

    def find(self, repo_id: str) -> int | None:
        """The index of the model with this id; None when there never was one."""
        index = self._names.spelled_index(repo_id)
        if index is None or index >= self.n_models:
            return None
        return index if self.ids(np.array([index]))[0] == repo_id.encode() else None

    # Records.

    def _parent_ids(self, index: Ints, rows: Ints) -> list[list[bytes]]:
        counts = self._n_parents[rows]
        child = np.repeat(index, counts)
        which = np.arange(len(child)) - np.repeat(np.cumsum(counts) - counts, counts)
        parents = self.parents(child, which)
        ids, exists = self.ids(np.maximum(parents, 0)), (parents >= 0).tolist()
        listed, at = [], 0
        for row in rows.tolist():
            named = self._named[row]
            # What does not exist has the name that stands in the real row.
            listed.append([ids[at + k] if exists[at + k] else name for k, name in enumerate(named)])
            at += len(named)
        return listed

    def _licences(self, index: Ints, version: Ints, rows: Ints) -> tuple[list[bytes], list[bytes]]:
        moved = (version > 0) & (self._licence_moves(index, version) < 3)
        drawn = self._licensed[
            self._draws.below("licence", max(1, len(self._licensed)), index, version)
        ]
        source = np.where(moved, drawn, rows).tolist()
        tags, cards_ = self._licence_tags, self._licence_cards
        return [tags[k] for k in source], [cards_[k] for k in source]

    def _licence_moves(self, index: Ints, version: Ints) -> Ints:
        return self._draws.below("edit", 10, index, version)

    def _extra_tags(self, index: Ints, version: Ints, rows: Ints) -> list[bytes]:
        """Of three in ten changed models, one tag that the row does not have."""
        edit = self._licence_moves(index, version)
        added = np.flatnonzero((version > 0) & (edit >= 3) & (edit < 6))
        drawn = self._draws.below("extra tag", len(self._own_tags), index, version)
        extra = [b""] * len(index)
        for k in added.tolist():
            tag = self._own_tags[drawn[k]]
            if tag not in self._tags[rows[k]]:
                extra[k] = orjson.dumps(tag) + b","
        return extra

    def _counts(self, index: Ints, version: Ints, rows: Ints) -> tuple[list[bytes], ...]:
        downloads, likes = self._downloads[rows], self._likes[rows]
        swing = 768 + self._draws.below("downloads", 512, index, version)
        downloads = np.where(version == 0, downloads, downloads * swing // 1024)
        likes = np.where(version == 0, likes, likes + self._draws.below("likes", 2, index, version))
        months = (self.end_s + DAY_S * self.n_days - self.created(index)) // (30 * DAY_S)
        all_time = downloads + downloads * months * self._draws.below("all time", 256, index) // 256
        return tuple(column.astype("S20").tolist() for column in (downloads, all_time, likes))

    def _times(self, index: Ints, version: Ints) -> tuple[list[bytes], ...]:
        columns = (self.created(index), self.modified(index, version))
        texts = (np.datetime_as_string(column.astype("datetime64[s]")) for column in columns)
        return tuple(text.astype("S19").tolist() for text in texts)

    def _hex(self, index: Ints, version: Ints) -> tuple[list[bytes], list[bytes]]:
        """Ids of the database (time of creation, then random) and commits."""
        made = self.created(index).astype(">u4").tobytes().hex().encode()
        rest = self._draws.bits("hex id", index).tobytes().hex().encode()
        commit = np.stack([self._draws.bits(f"sha {k}", index, version) for k in range(3)], axis=1)
        shas = commit.tobytes().hex().encode()
        numbers = range(len(index))
        hex_ids = [made[8 * k : 8 * k + 8] + rest[16 * k : 16 * k + 16] for k in numbers]
        return hex_ids, [shas[48 * k : 48 * k + 40] for k in numbers]

    def render(self, index: Ints, version: Ints, fields: Collection[str]) -> list[bytes]:
        """Each model's record as JSON, with ``_id``, ``id`` and `fields`."""
        rows = self.row_numbers(index)
        owners, names = self._names.owners_and_names(index, rows)
        ids = [owner + b"/" + name for owner, name in zip(owners, names, strict=True)]
        hex_ids, shas = self._hex(index, version)
        disabled = self._draws.below("disabled", _DISABLED_ONE_IN, index) == 0
        flags = [b"true" if flag else b"false" for flag in disabled.tolist()]
        columns = zip(
            ids, hex_ids, names, owners, *self._times(index, version), shas, flags,
            *self._counts(index, version, rows), *self._licences(index, version, rows),
            self._extra_tags(index, version, rows), strict=True,
        )  # fmt: skip
        templates = self._templates_for(frozenset(fields))
        records = []
        parents = self._parent_ids(index, rows)
        for row, values, named in zip(rows.tolist(), columns, parents, strict=True):
            template = templates[row]
            if template is None:
                template = templates[row] = self._compile(row, fields)
            records.append(template.text % template.pick((*values, *named)))
        return records

    def _compile(self, row: int, fields: Collection[str]) -> Template:
        return compile_template(self.row(row), self._lookups, fields)

    def _templates_for(self, fields: frozenset[str]) -> list[Template | None]:
        """The templates compiled so far; those of a few sets of fields are kept."""
        known = self._templates.get(fields)
        if known is None:
            if len(self._templates) >= 3:
                del self._templates[next(iter(self._templates))]
            known = self._templates[fields] = [None] * len(self._rows)
        return known


def _json_text(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]
