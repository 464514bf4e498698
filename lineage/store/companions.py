"""The files published beside the database, each made from it and named after it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lineage.store.atlas import build_atlas
from lineage.store.name_index import build_name_index
from lineage.store.publication import Companion

__all__ = ["build_companions"]

_BUILDERS: Mapping[str, tuple[str, Callable[[Path, Path], None]]] = {
    "atlas": (".atlas", build_atlas),
    "names": (".names.sqlite", build_name_index),
}
"""Role, suffix of the file's name, and what makes it: from the closed database, into a new file."""


def build_companions(database: Path, folder: Path, stem: str) -> dict[str, Companion]:
    """Make every companion of a database that is complete and closed.

    Each is written to a hidden file and renamed when it is whole. The database's own name is given
    last: companions without it were left by a killed publication, and the next one removes them.

    Parameters
    ----------
    database
        The published database, whatever it is called at this moment.
    folder
        Where the companions go.
    stem
        The name that the database will have, without its suffix.
    """
    companions: dict[str, Companion] = {}
    for role, (suffix, build) in _BUILDERS.items():
        temporary, final = folder / f".{stem}{suffix}.part", folder / f"{stem}{suffix}"
        build(database, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(temporary, final)
        companions[role] = Companion(final.name, sha256)
    return companions
