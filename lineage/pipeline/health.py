"""Whether the explorer can serve: it answers on its port, and the register opens."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

import duckdb

from lineage.errors import HerdbookError, SchemaError
from lineage.store.home import Home
from lineage.store.publication import connect_publication, read_manifest

__all__ = ["Health", "check_health"]

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """What can be served."""

    data_date: str
    sha256: str
    n_models: int


def check_health(home: Home, port: int | None = None) -> Health:
    """Open the register and ask it for its size; with `port`, ask the explorer there as well.

    The digest is not computed: this is asked every half minute, and the explorer checks it when it
    opens a publication.

    Raises
    ------
    NotFoundError
        If nothing was published, or the database is missing.
    SchemaError
        If the database cannot be read.
    HerdbookError
        If no explorer answers on the port.
    """
    manifest = read_manifest(home)
    for companion in manifest.companions.values():
        if not (home.published / companion.file).is_file():
            raise SchemaError(
                f"the published file {companion.file} is missing; run `herdbook publish` again"
            )
    connection = connect_publication(home, manifest)
    try:
        ((n_models,),) = connection.execute("SELECT count(*) FROM model").fetchall()
    except duckdb.Error as error:
        raise SchemaError(
            f"the published file {manifest.file} cannot be read; run `herdbook publish` again"
        ) from error
    finally:
        connection.close()
    if port is not None:
        _require_answer(port)
    return Health(manifest.data_date, manifest.sha256, int(n_models))


def _require_answer(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/_stcore/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise HerdbookError(f"no explorer answers on port {port}: {error}") from error
    finally:
        connection.close()
    if status != 200:
        raise HerdbookError(f"the explorer on port {port} answers {status}")
