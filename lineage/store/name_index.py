"""The index of names beside a publication: exact, prefix, substring and mistyped, in milliseconds.

An SQLite file with FTS5's trigram index [1]_, which DuckDB's wheel lacks. Rows are numbered by how
much a model is built upon, so that the first rows of an answer are its best and nothing is
sorted. What is asked is text from strangers: it is bound, and quoted as FTS5's grammar asks.

A mistyped name is found by its pieces: the text is cut into at most four pieces of three letters
or more, of which one mistake spoils two at most. Names that hold all pieces but two (at least one)
are candidates; those that share most trigrams with the text are compared letter by letter.

References
----------
.. [1] https://www.sqlite.org/fts5.html#the_trigram_tokenizer
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal

import duckdb

from lineage.errors import SchemaError

__all__ = ["NameIndex", "build_name_index"]

Match = Literal["exact", "prefix", "substring", "near"]

_ROWS_AT_ONCE = 65_536
_LONGEST = 200
_TRIGRAM = 3
_MOST_PIECES = 4
_SAMPLES, _SAMPLE = 3, 4  # pieces of a long word that are looked up, and their letters
_SPOILT = 2  # pieces that one mistake can touch
_CANDIDATES = 2_000
_COMPARED = 60
_LEAST_LIKE = 0.7
_MANY = 20_000  # that begin alike: then the best are found sooner by going along the ranks
_BEST = 200_000  # ranks among which a text too short for a trigram is looked for
_LAST = "\U0010ffff"


def build_name_index(database: Path, target: Path) -> None:
    """Make the index of the models of a published database in a new file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target.unlink(missing_ok=True)
    index = sqlite3.connect(target)
    try:
        # Nothing is lost when this is interrupted: the file is made anew.
        index.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 8192;"
            "CREATE TABLE model (place INTEGER PRIMARY KEY, name TEXT NOT NULL);"
            "CREATE VIRTUAL TABLE trigram USING fts5(name, content = 'model',"
            " content_rowid = 'place', tokenize = 'trigram', detail = 'full');"
        )
        index.executemany("INSERT INTO model VALUES (?, ?)", _ranked(database))
        index.executescript(
            "INSERT INTO trigram (trigram) VALUES ('rebuild');"
            "CREATE TABLE part (text TEXT NOT NULL, place INTEGER NOT NULL,"
            " PRIMARY KEY (text, place)) WITHOUT ROWID;"
        )
        index.create_function("folded", 1, str.casefold, deterministic=True)
        # Whole names and names without their owner, which are asked for by their beginning.
        index.execute(
            "INSERT OR IGNORE INTO part SELECT folded(name), place FROM model"
            " UNION ALL SELECT folded(substr(name, instr(name, '/') + 1)), place FROM model"
            " WHERE instr(name, '/') > 0 ORDER BY 1, 2"
        )
        index.commit()
    except sqlite3.Error as error:
        raise OSError(None, f"the index of names: {error}") from error
    finally:
        index.close()


def _ranked(database: Path) -> Iterator[tuple[int, str]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute(
            "SELECT row_number() OVER (ORDER BY n_descendants DESC, coalesce(downloads_30d, 0)"
            " DESC, repo_id) AS place, repo_id FROM model ORDER BY place"
        )
        while chunk := rows.fetchmany(_ROWS_AT_ONCE):
            yield from chunk


class NameIndex:
    """An index of names, open for reading; use one for each thread.

    Parameters
    ----------
    path
        The file of :func:`build_name_index`.

    Raises
    ------
    SchemaError
        If it cannot be opened or is none.
    """

    def __init__(self, path: Path) -> None:
        try:
            # The file never changes under its name, so nothing needs to be locked.
            self._index = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True
            )
            self._index.execute("SELECT place FROM part LIMIT 1").fetchall()
        except sqlite3.Error as error:
            raise SchemaError(
                f"The index of names {path.name} cannot be opened; run `herdbook publish` again."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._index.close()

    def search(self, text: str, limit: int = 25) -> list[tuple[Match, str]]:
        """Names that are, begin with or contain `text`, each once; the nearest ones if none does.

        Case is passed over; words parted by spaces may stand anywhere in a name. Within a group
        come first those with most descendants; near names come by likeness.
        """
        wanted = " ".join(text.replace("\0", " ").casefold().split())[:_LONGEST]
        if not wanted or limit < 1:
            return []
        found: dict[str, Match] = {}
        groups: tuple[tuple[Match, list[str]], ...] = (
            ("exact", self._exact(wanted, limit)),
            ("prefix", self._prefix(wanted, limit)),
            ("substring", self._containing(wanted, limit)),
        )
        for match, names in groups:
            for name in names:
                found.setdefault(name, match)
        if not found:
            return [("near", name) for name in self.near(wanted, limit)]
        return [(match, name) for name, match in found.items()][:limit]

    def _exact(self, wanted: str, limit: int) -> list[str]:
        return self._names(
            "SELECT name FROM part JOIN model USING (place) WHERE text = ? ORDER BY place LIMIT ?",
            wanted, limit,
        )  # fmt: skip

    def _prefix(self, wanted: str, limit: int) -> list[str]:
        span = (wanted, wanted + _LAST)
        (n,) = self._index.execute(
            "SELECT count(*) FROM (SELECT 1 FROM part WHERE text >= ? AND text < ? LIMIT ?)",
            (*span, _MANY),
        ).fetchall()[0]
        if n < _MANY:
            return self._names(
                "SELECT name FROM (SELECT DISTINCT place FROM part WHERE text >= ? AND text < ?"
                " ORDER BY place LIMIT ?) JOIN model USING (place) ORDER BY place",
                *span, limit,
            )  # fmt: skip
        return self._names(
            "SELECT name FROM model WHERE instr(lower(name), ?) = 1"
            " OR instr(lower(name), ?) > 0 ORDER BY place LIMIT ?",
            wanted, "/" + wanted, limit,
        )  # fmt: skip

    def _containing(self, wanted: str, limit: int) -> list[str]:
        words = wanted.split()
        pieces = {word: _samples(word) for word in words if len(word) >= _TRIGRAM}
        checked = [word for word in words if pieces.get(word) != [word]]
        conditions = " AND instr(lower(model.name), ?) > 0" * len(checked)
        if not pieces:
            return self._names(
                f"SELECT name FROM model WHERE place <= ?{conditions} ORDER BY place LIMIT ?",
                _BEST, *checked, limit,
            )  # fmt: skip
        return self._names(
            "SELECT model.name FROM trigram JOIN model ON model.place = trigram.rowid"
            f" WHERE trigram MATCH ?{conditions} ORDER BY trigram.rowid LIMIT ?",
            " AND ".join(_quoted(piece) for some in pieces.values() for piece in some),
            *checked, limit,
        )  # fmt: skip

    def near(self, text: str, limit: int = 8) -> list[str]:
        """Names that look most like `text`; those without anything in common are left out."""
        wanted = " ".join(text.replace("\0", " ").casefold().split())[:_LONGEST]
        pieces = _pieces(wanted)
        if not pieces or limit < 1:
            return []
        needed = max(1, len(pieces) - _SPOILT)
        question = " OR ".join(
            f"({' AND '.join(map(_quoted, some))})" for some in combinations(pieces, needed)
        )
        names = self._names(
            "SELECT name FROM trigram WHERE trigram MATCH ? ORDER BY rowid LIMIT ?",
            question, _CANDIDATES,
        )  # fmt: skip
        # A stable sort keeps those with most descendants first among equals.
        wanted_trigrams = _trigrams(wanted)
        names.sort(key=lambda name: -len(wanted_trigrams & _trigrams(name.casefold())))
        likely = [(_likeness(wanted, name.casefold()), name) for name in names[:_COMPARED]]
        likely.sort(key=lambda one: -one[0])
        return [name for likeness, name in likely[:limit] if likeness >= _LEAST_LIKE]

    def _names(self, statement: str, *values: object) -> list[str]:
        return [name for (name,) in self._index.execute(statement, values).fetchall()]


def _quoted(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'


def _samples(word: str) -> list[str]:
    """The word, or pieces from the beginning, the middle and the end of a long one.

    Who has these nearly always has the rest, and each further trigram costs another list to read.
    """
    if len(word) <= _SAMPLES * _SAMPLE or not word.isascii():  # SQLite lowers ASCII only
        return [word]
    step = (len(word) - _SAMPLE) / (_SAMPLES - 1)
    return [word[round(step * k) :][:_SAMPLE] for k in range(_SAMPLES)]


def _pieces(text: str) -> list[str]:
    """Up to four pieces of equal length, none shorter than a trigram."""
    n = min(_MOST_PIECES, len(text) // _TRIGRAM)
    bounds = [round(len(text) * k / n) for k in range(n + 1)] if n else []
    return [text[a:b] for a, b in pairwise(bounds)]


def _trigrams(text: str) -> set[str]:
    return {text[i : i + _TRIGRAM] for i in range(len(text) - _TRIGRAM + 1)}


def _likeness(wanted: str, name: str) -> float:
    """One less the share of the text's letters to change to find it somewhere in the name."""
    return 1.0 - _distance_within(wanted, name) / max(len(wanted), 1)


def _distance_within(wanted: str, name: str) -> int:
    """Least Damerau–Levenshtein distance of a text to any part of a name (Sellers 1980).

    Of adjacent letters that changed places each pair is touched once.
    """
    older: list[int] = []
    row = [0] * (len(name) + 1)
    for i, letter in enumerate(wanted, 1):
        above, row, oldest = row, [i], older
        for j, other in enumerate(name, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == name[j - 2] and wanted[i - 2] == other:
                cost = min(cost, oldest[j - 2] + 1)
            row.append(cost)
        older = above
    return min(row)
