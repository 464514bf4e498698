"""Search among the names of the register that a visit looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lineage import views
from lineage.errors import HerdbookError
from lineage.explorer.register import Visit, default_home
from lineage.store.name_index import NameIndex
from lineage.store.publication import companion_path

__all__ = ["look_alikes", "search"]


@contextmanager
def _index(visit: Visit) -> Iterator[NameIndex | None]:
    """The publication's index of names; None where it has none that can be trusted."""
    try:
        index = NameIndex(companion_path(default_home(), visit.manifest, "names"))
    except HerdbookError:
        yield None  # every name is gone through instead: slower, and the same answer
        return
    try:
        yield index
    finally:
        index.close()


def search(visit: Visit, text: str, limit: int = 25) -> tuple[views.SearchHit, ...]:
    """Models whose name is, begins with or contains `text`; near names when none does."""
    with _index(visit) as index:
        return views.search(visit.cursor, text, limit, index)


def look_alikes(visit: Visit, text: str, limit: int = 8) -> tuple[views.ModelCard, ...]:
    """Models whose names look most like `text`."""
    with _index(visit) as index:
        return views.near(visit.cursor, text, limit, index)
