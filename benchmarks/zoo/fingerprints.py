"""Fingerprints of the proving ground, read as a stranger reads a Hub, and kept beside it."""

from __future__ import annotations

from pathlib import Path

from crawler.hub_server import running_hub
from lineage.pipeline.crawl import crawl
from lineage.pipeline.fingerprint import fingerprint
from lineage.store.fingerprint_ledger import fingerprint_rows
from lineage.store.fingerprint_parts import read_fingerprints
from lineage.store.home import Home
from lineage.weights.fingerprint import Fingerprint
from lineage.weights.probe import SCHEME

__all__ = ["read_zoo"]


def read_zoo(folder: Path, home_folder: Path | None = None) -> dict[str, Fingerprint]:
    """Stage-3 fingerprints of all published models by name; what was read before is not read again.

    Parameters
    ----------
    folder
        A Hub on disk.
    home_folder
        Where what was read is kept; default: within the folder.

    Raises
    ------
    HerdbookError, CrawlError
        If the folder is no Hub.
    """
    home = Home(home_folder or folder / ".home")
    home.prepare()
    with running_hub(folder) as endpoint:
        crawl(home, endpoint, census=True)
        fingerprint(home, endpoint)
    connection = home.open_working()
    try:
        newest = {row.repo_id: row for row in fingerprint_rows(connection, SCHEME)}
    finally:
        connection.close()
    rows = [row for row in newest.values() if row.digest is not None]
    return {one.repo_id: one for one in read_fingerprints(home.fingerprints, rows)}
