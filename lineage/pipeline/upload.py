"""Upload the current publication to a data-set repository of a Hub, in one commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from crawler.client import Hub
from crawler.errors import CrawlError, NotFoundError
from crawler.publishing import DatasetAddress, DatasetRepository, RemoteState
from lineage.errors import HerdbookError, SchemaError, UsageError
from lineage.pipeline.publish import PublishReport, publish
from lineage.store.home import Home
from lineage.store.publication import (
    Manifest,
    file_sha256,
    is_behind,
    parse_manifest,
    read_manifest,
)

__all__ = ["UploadReport", "ensure_published", "upload"]

_MANIFEST = "manifest.json"
_CARD = "README.md"
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What was uploaded, or would be.

    Attributes
    ----------
    address
        Of the commit, to be fetched by; None of a dry run that would make a new one.
    sent, sent_bytes
        Files of the commit that the repository did not have, and their bytes.
    deleted
        Files of the publication before, which stay in the repository's history.
    """

    address: str | None
    file: str
    sha256: str
    data_date: str
    sent: tuple[str, ...]
    sent_bytes: int
    deleted: tuple[str, ...]
    is_dry_run: bool
    seconds: float


def ensure_published(
    home: Home, *, ignore_claims: bool = False, accept_losses: bool = False
) -> PublishReport | None:
    """Publish if a stage has run since the last publication, or if there is none; else None.

    A home without a working database, such as one that was fetched, has nothing to add.

    Raises
    ------
    HerdbookError
        As :func:`lineage.pipeline.publish.publish`.
    """
    try:
        read_manifest(home)
        if not ignore_claims and (not home.database.is_file() or not _is_behind(home)):
            return None
    except HerdbookError:
        pass  # nothing that could be uploaded as it is
    return publish(home, ignore_claims=ignore_claims, accept_losses=accept_losses)


def _is_behind(home: Home) -> bool:
    connection = home.open_working()
    try:
        return is_behind(connection)
    finally:
        connection.close()


def upload(
    home: Home,
    address: DatasetAddress,
    *,
    endpoint: str | None = None,
    dry_run: bool = False,
    hub: Hub | None = None,
    token: str | None = None,
) -> UploadReport:
    """Upload the current publication: database, companions, manifest last, in one commit.

    The repository is created, public, where there is none. What it has already is not sent again,
    so that a run that was interrupted goes on; a publication that is there already changes
    nothing. Afterwards every file of the commit is held against its digest.

    Parameters
    ----------
    home
        Whose publication.
    address
        Where to; its revision is the branch, ``main`` where none is named.
    endpoint, hub, token
        The Hub and with what right; default as :class:`crawler.client.Hub`.
    dry_run
        Only tell what would be sent.

    Raises
    ------
    NotFoundError
        If nothing was published here.
    SchemaError
        If a published file is not what its manifest says.
    UsageError
        If there is no token to write with.
    HerdbookError
        If the Hub refuses, cannot be reached, or holds something else afterwards.
    """
    started = time.monotonic()
    manifest = read_manifest(home)
    digests = _checked_digests(home, manifest)
    branch = address.revision or "main"
    repository = DatasetRepository(address.repo_id, hub or Hub(endpoint, token), token)
    if not dry_run and not repository.has_token():
        raise UsageError(
            "there is no token to write with; set HF_TOKEN, or log in with `hf auth login`"
        )
    try:
        before = _state(repository, branch)
        if before is None and not dry_run:
            repository.create()
            before = repository.state(branch)
        missing = _missing(home, digests, before)
        deleted = _replaced(repository, before, digests)
        report = UploadReport(
            str(DatasetAddress(address.repo_id, before.commit)) if before else None,
            manifest.file,
            manifest.sha256,
            manifest.data_date,
            tuple(missing),
            sum((home.published / name).stat().st_size for name in missing),
            deleted,
            dry_run,
            0.0,
        )
        if before is None or (missing and dry_run):
            return replace(report, address=None, seconds=time.monotonic() - started)
        if missing:
            commit = _commit(home, repository, manifest, before, (missing, deleted), branch)
            _require_arrived(home, repository.state(commit), digests, address)
            report = replace(report, address=str(DatasetAddress(address.repo_id, commit)))
        return replace(report, seconds=time.monotonic() - started)
    except CrawlError as error:
        raise HerdbookError(f"not published to {address}: {error}") from error


def _checked_digests(home: Home, manifest: Manifest) -> dict[str, str]:
    """Name and digest of every file to upload, the manifest last."""
    for name, sha256 in manifest.files.items():
        try:
            found = file_sha256(home.published / name)
        except OSError as error:
            raise SchemaError(
                f"the published file {name} is missing; run `herdbook publish` again"
            ) from error
        if found != sha256:
            raise SchemaError(
                f"the published file {name} is not what its manifest says (sha256 differs); "
                "run `herdbook publish` again"
            )
    return {**manifest.files, _MANIFEST: file_sha256(home.published / _MANIFEST)}


def _state(repository: DatasetRepository, branch: str) -> RemoteState | None:
    """The repository as it is; None: there is none."""
    try:
        return repository.state(branch)
    except NotFoundError:
        if branch == "main":
            return None
        raise


def _missing(home: Home, digests: Mapping[str, str], before: RemoteState | None) -> list[str]:
    """What the repository does not have, in the order of `digests`."""
    there = before.files if before else {}
    return [
        name
        for name, sha256 in digests.items()
        if name not in there or not there[name].is_like(home.published / name, sha256)
    ]


def _replaced(
    repository: DatasetRepository, before: RemoteState | None, digests: Mapping[str, str]
) -> tuple[str, ...]:
    """Files of the publication that is there, and of this one no more; strangers' files stay."""
    if before is None or _MANIFEST not in before.files:
        return ()
    text = repository.read(before.commit, _MANIFEST, max_bytes=_MAX_MANIFEST_BYTES)
    try:
        old = parse_manifest(text.decode("utf-8", errors="replace"), repository.repo_id)
    except SchemaError:
        return ()  # another herdbook's: whatever it names stays
    return tuple(sorted(name for name in old.files if name in before.files and name not in digests))


def _commit(
    home: Home,
    repository: DatasetRepository,
    manifest: Manifest,
    before: RemoteState,
    change: tuple[list[str], tuple[str, ...]],
    branch: str,
) -> str:
    missing, deleted = change
    with TemporaryDirectory(prefix="herdbook-") as folder:
        card = Path(folder, _CARD)
        card.write_text(_card(repository.repo_id), encoding="utf-8")
        # A card that somebody wrote is left alone.
        cards = {} if _CARD in before.files else {_CARD: card}
        return repository.commit(
            {**cards, **{name: home.published / name for name in missing}},
            deleted,
            f"Register of {manifest.data_date[:10]}",
            revision=branch,
            onto=before.commit,
        )


def _card(repo_id: str) -> str:
    return f"""---
pretty_name: herdbook register
tags:
- model-lineage
- duckdb
---

# A register of models and their parents

Published by herdbook: who descends from whom among the models of a Hub, what was declared and what
their weights show. `manifest.json` names the database (DuckDB), its digest and the date of its
data; the tables are described in herdbook's `docs/data-model.md`.

    herdbook explore --from hf://datasets/{repo_id}

Name a commit (`@COMMIT`) to see tomorrow what you see today. Texts in the tables were written by
strangers.
"""


def _require_arrived(
    home: Home, after: RemoteState, digests: Mapping[str, str], address: DatasetAddress
) -> None:
    wrong = _missing(home, digests, after)
    if wrong:
        raise HerdbookError(
            f"{address} does not hold what was sent ({', '.join(wrong)}); run the command again"
        )
