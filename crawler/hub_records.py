"""Records as the Hub's API words them: models, files, folders, commits; and their fields."""

from __future__ import annotations

from hashlib import sha1

from crawler.hub_folder import HostedFile, HostedRepo, digests_of
from crawler.hub_metadata import Description, Json, iso_time

__all__ = [
    "EXPANDABLE",
    "EXPANDABLE_IN_LISTINGS",
    "LISTED",
    "LISTED_IN_FULL",
    "Json",
    "commit_record",
    "model_record",
    "sibling_record",
    "tree_record",
]

LISTED = (
    "_id", "id", "modelId", "private", "likes", "trendingScore", "downloads", "tags",
    "pipeline_tag", "library_name", "createdAt",
)  # fmt: skip
LISTED_IN_FULL = (*LISTED, "author", "gated", "disabled", "lastModified", "sha", "siblings")
EXPANDABLE = frozenset({
    "author", "baseModels", "cardData", "childrenModelCount", "config", "createdAt", "disabled",
    "downloads", "downloadsAllTime", "evalResults", "gated", "gguf", "inference",
    "inferenceProviderMapping", "lastModified", "library_name", "likes", "mask_token",
    "model-index", "pipeline_tag", "private", "resourceGroup", "safetensors", "sha", "siblings",
    "spaces", "tags", "transformersInfo", "trendingScore", "usedStorage", "widgetData"
})  # fmt: skip
EXPANDABLE_IN_LISTINGS = EXPANDABLE - {"baseModels", "childrenModelCount", "usedStorage"}


def model_record(repo: HostedRepo, description: Description) -> dict[str, Json]:
    """All fields of a model's record but its files, under the names of the Hub's API.

    Fields about which the files say nothing are left out, as the Hub does.
    """
    card = dict(description.card) if description.card is not None else None
    parameters = description.parameters
    fields: dict[str, Json] = {
        "_id": repo.state[:24],
        "id": repo.repo_id,
        "modelId": repo.repo_id,
        "author": repo.repo_id.split("/")[0],
        "sha": repo.revision,
        "createdAt": iso_time(repo.created_at),
        "lastModified": iso_time(repo.last_modified),
        "private": False,
        "gated": repo.entry.gated or False,
        "disabled": repo.entry.disabled,
        "downloads": repo.entry.downloads,
        "downloadsAllTime": repo.entry.downloads,
        "likes": repo.entry.likes,
        "trendingScore": 0,
        "library_name": description.library,
        "pipeline_tag": description.task,
        "tags": list(description.tags),
        "cardData": card,
        "model-index": (card or {}).get("model-index"),
        "config": dict(description.config) if description.config is not None else None,
        "safetensors": (
            {"parameters": dict(parameters), "total": sum(parameters.values())}
            if parameters
            else None
        ),
        "gguf": dict(description.gguf) if description.gguf is not None else None,
        "spaces": [],
        "usedStorage": sum(file.size_bytes for file in repo.files.values()),
        "baseModels": (
            {
                "relation": description.relation,
                "models": [{"id": base} for base in description.base_models],
            }
            if description.base_models
            else None
        ),
    }
    return {key: value for key, value in fields.items() if value is not None}


def commit_record(repo: HostedRepo) -> dict[str, Json]:
    """The only commit, as trees name it."""
    return {"id": repo.revision, "title": "Upload model", "date": iso_time(repo.last_modified)}


def sibling_record(file: HostedFile) -> dict[str, Json]:
    """A file as a model's record lists it when asked for digests (``blobs``)."""
    digests = digests_of(file)
    sibling: dict[str, Json] = {
        "rfilename": file.path,
        "blobId": digests.oid,
        "size": file.size_bytes,
    }
    if digests.sha256 is not None:
        sibling["lfs"] = {
            "sha256": digests.sha256,
            "size": file.size_bytes,
            "pointerSize": digests.pointer_bytes,
        }
    return sibling


def tree_record(
    repo: HostedRepo, path: str, file: HostedFile | None, expand: bool
) -> dict[str, Json]:
    """One line of a tree; without a file it is a folder."""
    if file is None:
        oid = _folder_oid(repo, path)
        entry: dict[str, Json] = {"type": "directory", "oid": oid, "size": 0, "path": path}
    else:
        digests = digests_of(file)
        entry = {"type": "file", "oid": digests.oid, "size": file.size_bytes, "path": path}
        if digests.sha256 is not None:
            entry["lfs"] = {
                "oid": digests.sha256,
                "size": file.size_bytes,
                "pointerSize": digests.pointer_bytes,
            }
    if expand:
        entry["lastCommit"] = commit_record(repo)
    return entry


def _folder_oid(repo: HostedRepo, path: str) -> str:
    """A stand-in for git's id of a folder, which nothing but equality is read from."""
    return sha1(f"{repo.state}/{path}".encode(), usedforsecurity=False).hexdigest()
