"""Data-set repositories of the local Hub, with history: created, written and read by its client.

What is said here is what the unmodified client asks when it creates a repository and commits to it:
``create``, ``preupload``, the batch of large files with its uploads in one or several parts, and
``commit``. Everything lies in one folder::

    objects/SHA256                  every file, by its digest
    repos/OWNER/NAME/main           the commit that main points to
    repos/OWNER/NAME/COMMIT.json    its parent, title, time and files
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.hub_folder import HostedFile
from crawler.hub_http import FileBody, Refusal, parse_span
from crawler.records import is_repo_id

__all__ = ["DatasetHub"]

PART_BYTES = 64 << 20
"""Larger files are sent in parts of this size."""

_LARGE_BYTES = 10 << 20
_TEXT_SUFFIXES = (".json", ".md", ".txt", ".yaml", ".yml", ".csv")
_MAX_BODY_BYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^\0/][^\0]{0,255}")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of a commit; `large` is in large-file storage."""

    size: int
    sha256: str
    oid: str
    large: bool


@dataclass(frozen=True, slots=True)
class _Commit:
    """One state of a repository."""

    oid: str
    parent: str | None
    title: str
    time: str
    files: Mapping[str, _Entry]


class DatasetHub:
    """The answers for data sets.

    Parameters
    ----------
    root
        Where they are kept; created when the first one is.
    writers
        Token and the owner whose repositories it may write; ``*`` is any owner.
    """

    def __init__(
        self, root: Path, writers: Mapping[str, str], *, part_bytes: int = PART_BYTES
    ) -> None:
        self._root, self._writers, self._part_bytes = root, dict(writers), part_bytes
        self._secret = secrets.token_bytes(16)  # signs the addresses of uploads
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """What is answered here."""
        api, git = "/api/datasets/{owner}/{name}", "/datasets/{owner}/{name}"
        return [
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route("/api/validate-yaml", self._validate, methods=["POST"]),
            Route(api, self._info, methods=["GET"]),
            Route(f"{api}/revision/{{revision}}", self._info, methods=["GET"]),
            Route(f"{api}/preupload/{{revision}}", self._preupload, methods=["POST"]),
            Route(f"{api}/commit/{{revision}}", self._commit, methods=["POST"]),
            Route(f"{git}.git/info/lfs/objects/batch", self._batch, methods=["POST"]),
            Route("/upload/{signature}/{sha256}/{part:int}", self._upload, methods=["PUT"]),
            Route("/upload/{signature}/{sha256}/complete", self._complete, methods=["POST"]),
            Route("/upload/{signature}/{sha256}/verify", self._verify, methods=["POST"]),
            Route(f"{git}/resolve/{{revision}}/{{path:path}}", self._resolve, methods=["GET"]),
        ]

    # -- repositories and commits ----------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        asked = await _json(request)
        owner, name = str(asked.get("organization") or ""), str(asked.get("name") or "")
        if asked.get("type") != "dataset" or not is_repo_id(f"{owner}/{name}"):
            raise Refusal(400, "Invalid repository name or type")
        self._require_writer(request, owner)
        with self._lock:
            if (self._folder(f"{owner}/{name}") / "main").is_file():
                raise Refusal(409, "You already created this dataset repo")
            self._record(owner, name, None, "initial commit", {})
        url = f"{_base(request)}/datasets/{owner}/{name}"
        return JSONResponse({"url": url, "name": f"{owner}/{name}", "id": "0" * 24})

    async def _validate(self, request: Request) -> Response:
        await _json(request)
        return JSONResponse({"errors": [], "warnings": []})

    async def _info(self, request: Request) -> Response:
        commit = self._at(request)
        siblings = []
        for path, entry in commit.files.items():
            sibling: dict[str, object] = {"rfilename": path}
            if request.query_params.get("blobs") == "true":
                sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.large and "size" in sibling:
                sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 130}
            siblings.append(sibling)
        return JSONResponse({
            "_id": "0" * 24, "id": _repo_id(request), "author": request.path_params["owner"],
            "sha": commit.oid, "lastModified": commit.time, "private": False, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
        })  # fmt: skip

    async def _preupload(self, request: Request) -> Response:
        commit = self._at(request)
        self._require_writer(request)
        files = []
        for asked in (await _json(request)).get("files", []):
            path, size = str(asked["path"]), int(asked["size"])
            known = commit.files.get(path)
            is_text = path.endswith(_TEXT_SUFFIXES) and size <= _LARGE_BYTES
            files.append({
                "path": path, "uploadMode": "regular" if is_text else "lfs",
                "shouldIgnore": False, "oid": known.oid if known else None,
            })  # fmt: skip
        return JSONResponse({"files": files})

    async def _commit(self, request: Request) -> Response:
        self._require_writer(request)
        lines = [json.loads(line) for line in (await _body(request)).splitlines() if line.strip()]
        owner, name = request.path_params["owner"], request.path_params["name"]
        with self._lock:
            now = self._at(request)
            files, title = dict(now.files), ""
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "header":
                    title = str(value["summary"])
                    if value.get("parentCommit") not in (None, now.oid):
                        raise Refusal(412, "A commit has happened since. Please refresh.")
                    continue
                path = _checked(str(value["path"]))
                if key == "file":
                    files[path] = self._keep(base64.b64decode(value["content"]))
                elif key == "lfsFile":
                    files[path] = self._large(str(value["oid"]))
                elif key == "deletedFile":
                    files.pop(path, None)
                else:
                    raise Refusal(400, f"Unknown operation: {key!a:.40}")
            oid = self._record(owner, name, now.oid, title, files)
        url = f"{_base(request)}/datasets/{owner}/{name}/commit/{oid}"
        return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url})

    def _record(
        self, owner: str, name: str, parent: str | None, title: str, files: Mapping[str, _Entry]
    ) -> str:
        time = datetime.now(UTC).isoformat()
        value = {
            "parent": parent,
            "title": title,
            "time": time,
            "files": {path: asdict(files[path]) for path in sorted(files)},
        }
        text = json.dumps(value)
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        folder = self._folder(f"{owner}/{name}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{oid}.json").write_text(text)
        temporary = folder / "main.part"
        temporary.write_text(oid)
        os.replace(temporary, folder / "main")
        return oid

    def _at(self, request: Request) -> _Commit:
        repo_id = _repo_id(request)
        folder = self._folder(repo_id)
        if not is_repo_id(repo_id) or not (folder / "main").is_file():
            raise Refusal(404, "Repository not found", "RepoNotFound")
        revision = str(request.path_params.get("revision", "main"))
        oid = (folder / "main").read_text() if revision == "main" else revision
        path = folder / f"{oid}.json"
        if re.fullmatch(r"[0-9a-f]{40}", oid) is None or not path.is_file():
            raise Refusal(404, f"Invalid rev id: {revision[:80]!a}", "RevisionNotFound")
        value: dict[str, Any] = json.loads(path.read_text())
        files = {name: _Entry(**entry) for name, entry in value["files"].items()}
        return _Commit(oid, value["parent"], value["title"], value["time"], files)

    def _folder(self, repo_id: str) -> Path:
        return self._root / "repos" / repo_id

    # -- large files ------------------------------------------------------------------------------

    async def _batch(self, request: Request) -> Response:
        self._at(request)
        self._require_writer(request)
        objects = []
        for asked in (await _json(request)).get("objects", []):
            sha256, size = str(asked["oid"]), int(asked["size"])
            answer: dict[str, object] = {"oid": sha256, "size": size}
            if not self._object(sha256).is_file():
                answer["actions"] = self._actions(_base(request), sha256, size)
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    def _actions(self, base: str, sha256: str, size: int) -> dict[str, object]:
        address = f"{base}/upload/{self._sign(sha256)}/{sha256}"
        verify = {"href": f"{address}/verify"}
        if size <= self._part_bytes:
            return {"upload": {"href": f"{address}/1"}, "verify": verify}
        n_parts = -(-size // self._part_bytes)
        header = {str(part): f"{address}/{part}" for part in range(1, n_parts + 1)}
        header["chunk_size"] = str(self._part_bytes)
        return {"upload": {"href": f"{address}/complete", "header": header}, "verify": verify}

    async def _upload(self, request: Request) -> Response:
        sha256 = self._signed(request)
        part = self._part(sha256, request.path_params["part"])
        part.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        temporary = part.with_suffix(f".{secrets.token_hex(4)}")
        with temporary.open("wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
        if digest.hexdigest() == sha256:  # all of it in one part
            os.replace(temporary, self._object(sha256))
        else:
            os.replace(temporary, part)
        return Response(headers={"ETag": f'"{digest.hexdigest()[:32]}"'})

    async def _complete(self, request: Request) -> Response:
        sha256 = self._signed(request)
        asked = await _json(request)
        await run_in_threadpool(self._join, sha256, len(asked.get("parts", [])))
        return JSONResponse({"success": True})

    def _join(self, sha256: str, n_parts: int) -> None:
        temporary, digest = self._part(sha256, 0), hashlib.sha256()
        with temporary.open("wb") as whole:
            for number in range(1, n_parts + 1):
                with contextlib.suppress(FileNotFoundError):
                    content = self._part(sha256, number).read_bytes()
                    digest.update(content)
                    whole.write(content)
        for number in range(1, n_parts + 1):
            self._part(sha256, number).unlink(missing_ok=True)
        if digest.hexdigest() != sha256:
            temporary.unlink()
            raise Refusal(400, "The parts are not the file")
        os.replace(temporary, self._object(sha256))

    async def _verify(self, request: Request) -> Response:
        sha256 = self._signed(request)
        asked = await _json(request)
        path = self._object(sha256)
        if not path.is_file() or path.stat().st_size != asked.get("size"):
            raise Refusal(400, "The file did not arrive")
        return JSONResponse({"success": True})

    def _large(self, sha256: str) -> _Entry:
        path = self._object(sha256)
        if not path.is_file():
            raise Refusal(400, f"The large file {sha256[:12]!a} was not uploaded")
        size = path.stat().st_size
        oid = hashlib.sha1(f"{sha256}{size}".encode(), usedforsecurity=False).hexdigest()
        return _Entry(size, sha256, oid, large=True)

    def _keep(self, content: bytes) -> _Entry:
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._object(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return _Entry(len(content), sha256, git.hexdigest(), large=False)

    def _object(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            raise Refusal(400, "Not a SHA-256")
        return self._root / "objects" / sha256

    def _part(self, sha256: str, number: int) -> Path:
        return self._object(sha256).with_name(f"{sha256}.{number}.part")

    # -- reading ----------------------------------------------------------------------------------

    async def _resolve(self, request: Request) -> Response:
        commit = self._at(request)
        entry = commit.files.get(request.path_params["path"])
        headers = {"X-Repo-Commit": commit.oid}
        if entry is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        headers |= {"ETag": f'"{entry.sha256}"', "Accept-Ranges": "bytes"}
        headers |= {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        span = parse_span(request.headers.get("range", ""), entry.size, headers)
        start, stop = span or (0, entry.size)
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
        headers["Content-Length"] = str(stop - start)
        file = HostedFile(request.path_params["path"], self._object(entry.sha256), entry.size, 0)
        return FileBody(file, (start, stop), stop - start, 206 if span else 200, headers)

    # -- rights -----------------------------------------------------------------------------------

    def _require_writer(self, request: Request, owner: str | None = None) -> None:
        owner = owner or str(request.path_params["owner"])
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self._writers:
            raise Refusal(401, "Invalid username or password.")
        if self._writers[token] not in ("*", owner):
            raise Refusal(403, f"You don't have the rights to write to the namespace {owner!a}")

    def _sign(self, sha256: str) -> str:
        return hmac.new(self._secret, sha256.encode(), "sha256").hexdigest()

    def _signed(self, request: Request) -> str:
        sha256 = str(request.path_params["sha256"])
        if not hmac.compare_digest(self._sign(sha256), str(request.path_params["signature"])):
            raise Refusal(403, "Signature does not match")
        return sha256


def _repo_id(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _checked(path: str) -> str:
    if _PATH.fullmatch(path) is None:
        raise Refusal(400, "Invalid path")
    return path


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise Refusal(413, "Request entity too large")
    return body


async def _json(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await _body(request))
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body cannot be read") from error
    if not isinstance(value, dict):
        raise Refusal(400, "The body must be an object")
    return value
