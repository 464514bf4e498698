"""A data-set repository of a Hub that holds a publication: read by ranges, written in one commit.

Reading goes through :class:`crawler.client.Hub`, with its budgets, tries and errors; writing
through the Hub's official client. Large files are uploaded before the commit and known by their
digest, so that a second try sends only those that are missing; nobody sees any of them before the
commit, which comes last and is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from crawler.answers import Address, shown, translate, wait_of
from crawler.client import Hub
from crawler.errors import CrawlError, MalformedError, PermanentError, ServerError
from crawler.records import is_repo_id

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["DatasetAddress", "DatasetRepository", "RefusedError", "RemoteFile", "RemoteState"]

_CHUNK_BYTES = 16 << 20
_ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^@]{1,128}))?/?")
_REVISION = re.compile(r"[\w.\-/]{1,128}", re.ASCII)


class RefusedError(PermanentError):
    """The Hub does not let this token write, or somebody else wrote meanwhile."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class DatasetAddress:
    """A data-set repository, at a branch, tag or commit where one is named."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo_id}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> DatasetAddress:
        """Read ``hf://datasets/OWNER/NAME[@REVISION]``.

        Raises
        ------
        ValueError
            If it is none.

        Examples
        --------
        >>> DatasetAddress.parse("hf://datasets/herd/register@main")
        DatasetAddress(repo_id='herd/register', revision='main')
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or not is_repo_id(match[1]):
            raise ValueError(f"{text[:120]!r} is not hf://datasets/OWNER/NAME[@REVISION]")
        revision = match[2]
        if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise ValueError(f"{revision[:80]!r} is no branch, tag or commit")
        return cls(match[1], revision)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its size, and the digest that the Hub states of it."""

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str | None

    def is_like(self, local: Path, sha256: str) -> bool:
        """Whether a local file of that digest is this one."""
        if local.stat().st_size != self.size_bytes:
            return False
        if self.sha256 is not None:
            return self.sha256 == sha256
        content = local.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return self.blob_id == git.hexdigest()


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A repository at a commit."""

    commit: str
    files: Mapping[str, RemoteFile]


class DatasetRepository:
    """One data-set repository of a Hub.

    Parameters
    ----------
    repo_id
        ``owner/name``.
    hub
        Through which it is read.
    token
        With which it is written; default what the client finds.
    """

    def __init__(self, repo_id: str, hub: Hub, token: str | None = None) -> None:
        if not is_repo_id(repo_id) or "/" not in repo_id:
            raise ValueError(f"not a repository: {repo_id[:120]!r}")
        self.repo_id = repo_id
        self._hub, self._token = hub, token

    def has_token(self) -> bool:
        """Whether there is a token to write with."""
        from huggingface_hub import get_token

        return (self._token or get_token()) is not None

    def state(self, revision: str = "main") -> RemoteState:
        """The commit that a revision points to, and its files.

        Raises
        ------
        NotFoundError
            If there is no such repository or revision, or the token may not see it.
        CrawlError
            As the Hub answers.
        """
        path = f"api/datasets/{self.repo_id}/revision/{quote(revision, safe='')}"
        try:
            said = json.loads(self._hub.get(path, {"blobs": "true"}))
            files = {
                str(file["rfilename"]): RemoteFile(
                    str(file["rfilename"]),
                    int(file["size"]),
                    str(file["lfs"]["sha256"]) if file.get("lfs") else None,
                    str(file["blobId"]) if file.get("blobId") else None,
                )
                for file in said["siblings"]
            }
            return RemoteState(str(said["sha"]), files)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MalformedError(f"the Hub describes {self.repo_id} in a way not known") from error

    def read(self, commit: str, path: str, *, max_bytes: int) -> bytes:
        """A small file, whole."""
        return self._hub.get(self._url(commit, path), max_bytes=max_bytes)

    def download(
        self,
        commit: str,
        file: RemoteFile,
        target: BinaryIO,
        told: Callable[[int], None] = lambda n_bytes: None,
    ) -> None:
        """Append the rest of a file to `target`, which holds its beginning; `told` how much came.

        Raises
        ------
        CrawlError
            As the Hub answers; what has come stays, and the next call goes on from there.
        """
        # Asked for through the Hub each time: signed addresses run out within the hour.
        address = Address(self._url(commit, file.path), file.size_bytes, None)
        for start in range(target.tell(), file.size_bytes, _CHUNK_BYTES):
            stop = min(file.size_bytes, start + _CHUNK_BYTES)
            target.write(self._hub.get_range(address, start, stop))
            target.flush()
            told(stop - start)

    def create(self) -> None:
        """Create the repository, public, if there is none.

        Raises
        ------
        RefusedError
            If the token may not.
        """
        with self._translated():
            self._api().create_repo(self.repo_id, repo_type="dataset", exist_ok=True)

    def commit(
        self,
        files: Mapping[str, Path],
        deleted: Collection[str],
        message: str,
        *,
        revision: str,
        onto: str,
    ) -> str:
        """Upload files and commit them, in their order, together with deletions; the new commit.

        Parameters
        ----------
        files
            Path in the repository, and the file.
        deleted
            Paths that go away.
        message
            First line of the commit.
        revision
            Branch that is moved.
        onto
            Commit that it must point to now.

        Raises
        ------
        RefusedError
            If the token may not write, or the branch points elsewhere by now.
        CrawlError
            As the Hub answers. What was uploaded is kept there for the next try.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [CommitOperationAdd(path, local) for path, local in files.items()]
        removed = [CommitOperationDelete(path) for path in sorted(deleted)]
        with self._translated():
            done = self._api().create_commit(
                self.repo_id,
                [*removed, *added],
                commit_message=message,
                repo_type="dataset",
                revision=revision,
                parent_commit=onto,
            )
        return str(done.oid)

    def _url(self, commit: str, path: str) -> str:
        return f"{self._hub.endpoint}/datasets/{self.repo_id}/resolve/{commit}/{quote(path)}"

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import disable_progress_bars

        # Plain uploads, which every Hub takes and which ask no other host; the client's own setting
        # is read from the environment when it is imported, which may have been long ago.
        constants.HF_HUB_DISABLE_XET = True
        if not sys.stderr.isatty():
            disable_progress_bars()
        return HfApi(endpoint=self._hub.endpoint, token=self._token, library_name="herdbook")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the client as ours, without the token."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        with self._hub.without_token():
            try:
                yield
            except CrawlError:
                raise
            except (httpx2.TransportError, OSError, RuntimeError, ValueError) as error:
                # The client wraps what goes wrong with one upload into a RuntimeError.
                inner = error.__cause__ if isinstance(error, RuntimeError) else error
                if isinstance(inner, HfHubHTTPError):
                    raise _refusal(inner) from error
                if isinstance(inner, httpx2.TransportError | OSError):
                    raise ServerError(f"the connection to the Hub broke: {inner}") from error
                raise MalformedError(f"the Hub's client gave up: {inner or error}") from error


def _refusal(error: Exception) -> CrawlError:
    from huggingface_hub.errors import HfHubHTTPError

    assert isinstance(error, HfHubHTTPError)
    response = error.response
    status, said = response.status_code, error.server_message or ""
    if status == 401:
        return RefusedError("the Hub does not know this token; log in again with `hf auth login`")
    if status == 403:
        return RefusedError(
            f"this token may not write there{f' ({said})' if said else ''}; it needs the right to "
            "write to this owner's repositories"
        )
    if status in (409, 412):
        return RefusedError(
            "somebody else has written to the repository meanwhile; run the command again"
        )
    url = shown(str(response.url))
    return translate(status, response.headers, url, wait_of(response.headers))
