"""The local Hub, asked by the real client and, where that is too polite, by raw requests."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    ModelCard,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import parse_ratelimit_headers
from safetensors.numpy import save_file

from crawler.errors import MalformedError, NotFoundError
from crawler.hub_server import Faults, make_app, running_hub, serve

REVISION = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
license: apache-2.0
language: [en, de]
library_name: transformers
base_model: founders/stem
tags: [tiny]
datasets: [some/text]
model-index:
- name: child
  results:
  - task: {type: text-generation}
    dataset: {name: prose, type: prose}
    metrics: [{type: loss, value: 1.5, name: loss/prose}]
---
# Child
"""

UNFOLDING_CARD = (  # each line holds the line before eight times: 8**6 words
    "---\na: &a [x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{name}: &{name} [{', '.join([f'*{other}'] * 8)}]\n"
        for other, name in zip("abcde", "bcdef", strict=True)
    )
    + "---\n"
)


def write_model(folder: Path, card: str | None, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32)
    tensors = {"embed": weights, "norm": np.ones(4, np.float16)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["TinyForCausalLM"], "model_type": "tiny", "hidden_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_model(root / "founders" / "stem", "---\nlicense: mit\n---\n")
    child = write_model(root / "kin" / "child", CARD, seed=1)
    (child / "onnx" / "deep").mkdir(parents=True)
    (child / "onnx" / "deep" / "notes.txt").write_text("hello")
    (child / ".secret").write_text("hidden")
    write_model(root / "kin" / "locked", "---\nlicense: other\n---\n")
    write_model(root / "kin" / "off", None)
    write_model(root / "kin" / "ghost", "---\nbase_model: [kin/child, founders/stem]\n---\n")
    write_model(root / "odd" / "card", "---\nbase_model: [unclosed\n---\n")
    (root / "outside.txt").write_text("not a repository's")
    (root / "kin" / "child" / "leak.txt").symlink_to("/etc/hostname")
    child_entry = {
        "created_at": "2024-01-02T03:04:05Z",
        "last_modified": "2024-02-03T04:05:06.789Z",
        "downloads": 12,
        "likes": 3,
        "revision": REVISION,
    }
    models = {
        "kin/child": child_entry,
        "kin/locked": {"gated": "auto", "downloads": 40},
        "kin/off": {"disabled": True},
        "kin/ghost": {"vanishes": True, "downloads": 7},
    }
    (root / "hub.json").write_text(json.dumps({"models": models}))
    return root


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    with running_hub(folder, accepted_tokens=["hf_reader"]) as address:
        yield address


@pytest.fixture(scope="module")
def api(endpoint: str) -> HfApi:
    return HfApi(endpoint=endpoint, token=False)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    endpoint: str, target: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    """Send a target exactly as it is written; no client tidies it."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    try:
        named: Mapping[str, str] = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, target, body, dict(named))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


WEIGHTS = "/kin/child/resolve/main/model.safetensors"


# --- listings ---------------------------------------------------------------------------------


def test_every_repository_is_listed(api: HfApi) -> None:
    assert [model.id for model in api.list_models()] == [
        "founders/stem",
        "kin/child",
        "kin/ghost",
        "kin/locked",
        "kin/off",
        "odd/card",
    ]


def test_pages_follow_the_link_header_without_gap_or_repetition(endpoint: str) -> None:
    target, found = "/api/models?limit=2&expand=tags&expand=sha", []
    sizes = []
    while target:
        answer = ask(endpoint, target)
        page = json.loads(answer.body)
        sizes.append(len(page))
        found += [record["id"] for record in page]
        link = answer.headers.get("Link")
        if link is None:
            break
        assert link.endswith('>; rel="next"')
        address = link[1:].partition(">")[0]
        assert address.startswith(endpoint)
        assert "expand=tags&expand=sha" in address
        target = address.removeprefix(endpoint)
    assert sizes == [2, 2, 2]
    assert len(set(found)) == 6


def test_the_client_reads_several_pages(tmp_path: Path) -> None:
    for number in range(1003):
        (tmp_path / "many" / f"model-{number}").mkdir(parents=True)
    with running_hub(tmp_path) as endpoint:
        api = HfApi(endpoint=endpoint, token=False)
        assert len({model.id for model in api.list_models()}) == 1003
        assert len(list(api.list_models(limit=1002))) == 1002
        assert len(list(api.list_models(limit=5))) == 5


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"author": "founders"}, ["founders/stem"]),
        ({"author": "kin", "search": "CHI"}, ["kin/child"]),
        ({"filter": "base_model:founders/stem"}, ["kin/child", "kin/ghost"]),
        ({"filter": ["base_model:merge:kin/child"]}, ["kin/ghost"]),
        ({"filter": ["license:apache-2.0", "tiny"]}, ["kin/child"]),
        ({"filter": ["license:mit", "de"]}, []),
        ({"author": "kin", "gated": True}, ["kin/locked"]),
        ({"pipeline_tag": "fill-mask"}, []),
        ({"sort": "downloads", "limit": 3}, ["kin/locked", "kin/child", "kin/ghost"]),
        ({"sort": "likes", "limit": 1}, ["kin/child"]),
        ({"author": "nobody"}, []),
    ],
)
def test_listings_are_filtered_and_sorted(
    api: HfApi, query: dict[str, object], ids: list[str]
) -> None:
    assert [model.id for model in api.list_models(**query)] == ids  # type: ignore[arg-type]


def test_direction_one_sorts_upwards(endpoint: str) -> None:
    upwards = json.loads(ask(endpoint, "/api/models?sort=downloads&direction=1").body)
    downloads = [record["downloads"] for record in upwards]
    assert downloads == sorted(downloads) == [0, 0, 0, 7, 12, 40]


def test_a_plain_listing_is_as_short_as_the_hubs(api: HfApi) -> None:
    child = next(iter(api.list_models(search="child")))
    assert (child.downloads, child.likes, child.pipeline_tag) == (12, 3, "text-generation")
    assert (child.sha, child.siblings, child.card_data) == (None, None, None)
    full = next(iter(api.list_models(search="child", full=True, cardData=True, fetch_config=True)))
    assert full.sha == REVISION
    assert full.last_modified == datetime(2024, 2, 3, 4, 5, 6, 789000, UTC)
    assert [file.rfilename for file in full.siblings or []] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "onnx/deep/notes.txt",
    ]
    assert full.card_data is not None
    assert full.card_data.license == "apache-2.0"
    assert full.config == {"architectures": ["TinyForCausalLM"], "model_type": "tiny"}


def test_expanded_listings_hold_only_what_was_asked_for(api: HfApi, endpoint: str) -> None:
    child = next(
        iter(api.list_models(search="child", expand=["safetensors", "gated", "createdAt"]))
    )
    assert child.safetensors is not None
    assert child.safetensors.parameters == {"F32": 24, "F16": 4}
    assert child.safetensors.total == 28
    assert child.gated is False
    assert child.created_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert child.downloads is None
    record = json.loads(ask(endpoint, "/api/models?search=child&expand[]=createdAt").body)[0]
    assert record.keys() == {"_id", "id", "createdAt"}
    assert record["createdAt"] == "2024-01-02T03:04:05.000Z"


@pytest.mark.parametrize("field", ["baseModels", "childrenModelCount", "usedStorage", "nonsense"])
def test_listings_refuse_what_the_hub_refuses(api: HfApi, field: str) -> None:
    with pytest.raises(BadRequestError):
        list(api.list_models(expand=[field]))  # type: ignore[list-item]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=%21", "cursor=eA==", "sort=name"])
def test_a_nonsensical_query_is_refused(endpoint: str, query: str) -> None:
    assert ask(endpoint, f"/api/models?{query}").status == 400


# --- details ----------------------------------------------------------------------------------


def test_details_name_the_commit_tags_and_files(api: HfApi, folder: Path) -> None:
    info = api.model_info("kin/child", files_metadata=True)
    assert (info.id, info.author, info.sha) == ("kin/child", "kin", REVISION)
    assert info.library_name == "transformers"
    expected = {
        "transformers", "safetensors", "tiny", "text-generation", "en", "de", "dataset:some/text",
        "base_model:founders/stem", "base_model:finetune:founders/stem", "license:apache-2.0",
    }  # fmt: skip
    assert expected <= set(info.tags or [])
    assert info.card_data is not None
    assert info.card_data.eval_results is not None
    assert info.card_data.eval_results[0].metric_value == 1.5
    files = {file.rfilename: file for file in info.siblings or []}
    weights = (folder / "kin/child/model.safetensors").read_bytes()
    assert files["model.safetensors"].size == len(weights)
    lfs = files["model.safetensors"].lfs
    assert lfs is not None
    assert lfs.sha256 == hashlib.sha256(weights).hexdigest()
    assert files["onnx/deep/notes.txt"].lfs is None
    # `printf hello | git hash-object --stdin`
    assert files["onnx/deep/notes.txt"].blob_id == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


def test_details_expand_the_family(api: HfApi) -> None:
    root = api.model_info("founders/stem", expand=["childrenModelCount", "usedStorage"])
    assert root.children_model_count == 2
    assert (root.used_storage or 0) > 100
    assert root.tags is None
    child = api.model_info("kin/child", expand=["baseModels"])
    # The client says "list of str" but hands on what the Hub sends.
    assert vars(child)["base_models"] == {
        "relation": "finetune",
        "models": [{"id": "founders/stem"}],
    }


@pytest.mark.parametrize("revision", ["main", REVISION, REVISION[:7], "refs/heads/main"])
def test_known_revisions_are_found(api: HfApi, revision: str) -> None:
    assert api.model_info("kin/child", revision=revision).sha == REVISION


@pytest.mark.parametrize("revision", ["refs/pr/1", "v1", "0123", "f" * 40])
def test_unknown_revisions_are_not_found(api: HfApi, revision: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.model_info("kin/child", revision=revision)
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree("kin/child", revision=revision))


@pytest.mark.parametrize("repo_id", ["kin/nobody", "nobody/child", "gpt2"])
def test_unknown_repositories_are_not_found(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo_id)
    with pytest.raises(RepositoryNotFoundError):
        api.list_repo_refs(repo_id)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(repo_id, "config.json", endpoint=api.endpoint, cache_dir=tmp_path)
    assert not api.repo_exists(repo_id)


def test_a_card_that_cannot_be_read_gives_no_tags(api: HfApi) -> None:
    info = api.model_info("odd/card")
    assert info.card_data is None
    assert not any(tag.startswith("base_model:") for tag in info.tags or [])


def test_the_tree_is_listed_flat_deep_and_below_a_folder(api: HfApi, folder: Path) -> None:
    flat = list(api.list_repo_tree("kin/child"))
    assert [entry.path for entry in flat] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "onnx",
    ]
    assert isinstance(flat[3], RepoFolder)
    weights = flat[2]
    assert isinstance(weights, RepoFile)
    assert weights.lfs is not None
    assert weights.xet_hash is None
    data = (folder / "kin/child/model.safetensors").read_bytes()
    assert weights.lfs.sha256 == hashlib.sha256(data).hexdigest()
    deep = [entry.path for entry in api.list_repo_tree("kin/child", recursive=True)]
    assert deep[3:] == ["onnx", "onnx/deep", "onnx/deep/notes.txt"]
    inside = list(api.list_repo_tree("kin/child", "onnx/deep", expand=True))
    assert [entry.path for entry in inside] == ["onnx/deep/notes.txt"]
    assert inside[0].last_commit is not None
    assert inside[0].last_commit.oid == REVISION
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("kin/child", "absent"))


def test_a_large_tree_comes_in_pages(tmp_path: Path) -> None:
    model = tmp_path / "a" / "wide"
    model.mkdir(parents=True)
    for number in range(60):
        (model / f"{number}.txt").write_text(str(number))
    with running_hub(tmp_path) as endpoint:
        api = HfApi(endpoint=endpoint, token=False)
        assert len(list(api.list_repo_tree("a/wide", expand=True))) == 60
        assert len(json.loads(ask(endpoint, "/api/models/a/wide/tree/main?expand=true").body)) == 50


def test_references_and_commits_name_the_revision(api: HfApi) -> None:
    refs = api.list_repo_refs("kin/child", include_pull_requests=True)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", REVISION)]
    assert (refs.tags, refs.converts, refs.pull_requests) == ([], [], [])
    commits = api.list_repo_commits("kin/child", formatted=True)
    assert [commit.commit_id for commit in commits] == [REVISION]
    assert commits[0].authors == ["kin"]
    assert commits[0].created_at == datetime(2024, 2, 3, 4, 5, 6, 789000, UTC)


def test_paths_are_looked_up_from_forms_and_json(api: HfApi, endpoint: str) -> None:
    wanted = ["config.json", "onnx", "absent", "../stem/config.json"]
    found = api.get_paths_info("kin/child", wanted, expand=True)
    assert [(entry.path, type(entry)) for entry in found] == [
        ("config.json", RepoFile),
        ("onnx", RepoFolder),
    ]
    target = "/api/models/kin/child/paths-info/main"
    body = json.dumps({"paths": ["model.safetensors"]}).encode()
    answer = ask(endpoint, target, "POST", body, Content_Type="application/json")
    assert [entry["path"] for entry in json.loads(answer.body)] == ["model.safetensors"]
    for bad in (b"{", b"[]", b"\xff"):
        refused = ask(endpoint, target, "POST", bad, Content_Type="application/json")
        assert refused.status == 400


# --- files ------------------------------------------------------------------------------------


def test_file_metadata_carries_commit_etag_and_size(endpoint: str, folder: Path) -> None:
    data = (folder / "kin/child/model.safetensors").read_bytes()
    url = hf_hub_url("kin/child", "model.safetensors", endpoint=endpoint)
    found = get_hf_file_metadata(url, token=False)
    assert (found.commit_hash, found.size) == (REVISION, len(data))
    assert found.etag == hashlib.sha256(data).hexdigest()
    assert found.xet_file_data is None
    answer = ask(endpoint, WEIGHTS, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Linked-Size"] == str(len(data))
    assert answer.headers["X-Linked-ETag"] == answer.headers["ETag"]


def test_files_are_downloaded_whole(endpoint: str, folder: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "onnx/deep/notes.txt"):
        path = hf_hub_download("kin/child", name, endpoint=endpoint, cache_dir=tmp_path)
        assert Path(path).read_bytes() == (folder / "kin/child" / name).read_bytes()
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("kin/child", "absent.json", endpoint=endpoint, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(
            "kin/child", "config.json", revision="v9", endpoint=endpoint, cache_dir=tmp_path
        )


def test_a_snapshot_is_downloaded_without_hidden_files_and_leaks(
    endpoint: str, folder: Path, tmp_path: Path
) -> None:
    path = Path(snapshot_download("kin/child", endpoint=endpoint, cache_dir=tmp_path))
    assert path.name == REVISION
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert names == {"README.md", "config.json", "model.safetensors", "onnx/deep/notes.txt"}
    assert (path / "README.md").read_text() == CARD


def test_an_interrupted_download_resumes_at_its_byte(
    endpoint: str, folder: Path, tmp_path: Path
) -> None:
    data = (folder / "kin/child/model.safetensors").read_bytes()
    blobs = tmp_path / "models--kin--child" / "blobs"
    blobs.mkdir(parents=True)
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"{digest}.incomplete").write_bytes(data[:100])
    path = hf_hub_download("kin/child", "model.safetensors", endpoint=endpoint, cache_dir=tmp_path)
    assert Path(path).read_bytes() == data


def test_safetensors_headers_are_read_by_range(api: HfApi) -> None:
    header = api.parse_safetensors_file_metadata("kin/child", "model.safetensors")
    assert header.tensors["embed"].shape == [6, 4]
    assert header.metadata == {"format": "pt"}
    assert api.get_safetensors_metadata("kin/child").parameter_count == {"F32": 24, "F16": 4}


def test_the_clients_file_system_and_cards_work(endpoint: str, folder: Path) -> None:
    files = HfFileSystem(endpoint=endpoint, token=False, skip_instance_cache=True)
    data = (folder / "kin/child/model.safetensors").read_bytes()
    assert files.cat_file("kin/child/model.safetensors", start=8, end=40) == data[8:40]
    assert "kin/child/config.json" in files.ls("kin/child", detail=False)
    card = ModelCard(ask(endpoint, "/kin/child/resolve/main/README.md").body.decode())
    assert vars(card.data)["base_model"] == "founders/stem"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-7", 0, 8),
        ("bytes=5-5", 5, 6),
        ("bytes=10-", 10, None),
        ("bytes=-4", -4, None),
        ("bytes=-99999999", 0, None),
        ("bytes=3-99999999", 3, None),
    ],
)
def test_ranges_are_served_exactly(
    endpoint: str, folder: Path, wanted: str, start: int, stop: int | None
) -> None:
    data = (folder / "kin/child/model.safetensors").read_bytes()
    answer = ask(endpoint, WEIGHTS, Range=wanted)
    assert answer.status == 206
    assert answer.body == data[start:stop]
    first, _, _ = slice(start, stop).indices(len(data))
    last = first + len(answer.body) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=99999999-99999999", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(endpoint: str, folder: Path, wanted: str) -> None:
    size = (folder / "kin/child/model.safetensors").stat().st_size
    answer = ask(endpoint, WEIGHTS, Range=wanted)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize("wanted", ["bytes=9-3", "bytes=-", "items=0-3", "bytes=0-1,4-5", "x"])
def test_a_range_that_means_nothing_gets_the_whole_file(
    endpoint: str, folder: Path, wanted: str
) -> None:
    answer = ask(endpoint, WEIGHTS, Range=wanted)
    assert answer.status == 200
    assert answer.body == (folder / "kin/child/model.safetensors").read_bytes()


def test_a_range_of_another_version_gets_the_whole_file(endpoint: str) -> None:
    etag = ask(endpoint, WEIGHTS, "HEAD").headers["ETag"]
    assert ask(endpoint, WEIGHTS, Range="bytes=0-3", If_Range=etag).status == 206
    assert ask(endpoint, WEIGHTS, Range="bytes=0-3", If_Range='"older"').status == 200


def test_files_larger_than_a_chunk_arrive_unharmed(tmp_path: Path) -> None:
    model = tmp_path / "a" / "big"
    model.mkdir(parents=True)
    data = np.random.default_rng(0).bytes(700_001)
    (model / "weights.bin").write_bytes(data)
    (model / "empty.bin").write_bytes(b"")
    with running_hub(tmp_path) as endpoint:
        target = "/a/big/resolve/main/weights.bin"
        assert ask(endpoint, target).body == data
        assert ask(endpoint, target, Range="bytes=1-600000").body == data[1:600_001]
        assert ask(endpoint, "/a/big/resolve/main/empty.bin").status == 200
        assert ask(endpoint, "/a/big/resolve/main/empty.bin", Range="bytes=0-1").status == 416


@pytest.mark.parametrize(
    "target",
    [
        "/kin/child/resolve/main/../../../outside.txt",
        "/kin/child/resolve/main/..%2F..%2F..%2Foutside.txt",
        "/kin/child/resolve/main/%2e%2e/stem/config.json",
        "/kin/child/resolve/main/onnx/../config.json",
        "/kin/child/resolve/main//etc/hostname",
        "/kin/child/resolve/main/%2Fetc%2Fhostname",
        "/kin/child/resolve/main/..%5C..%5Coutside.txt",
        "/kin/child/resolve/main/config.json%00",
        "/kin/child/resolve/main/%FF%FE",
        "/kin/child/resolve/main/.secret",
        "/kin/child/resolve/main/leak.txt",
        "/kin/child/resolve/main/onnx",
        "/kin/child/resolve/main/",
        "/kin/child/resolve/main",
        "/kin/../resolve/main/outside.txt",
        "/../hub/resolve/main/hub.json",
        "/kin/%2e%2e/resolve/main/hub.json",
        "/kin/..%2F/resolve/main/hub.json",
        "/hub.json",
        "/outside.txt",
        "/",
        "//",
        "/api/models/kin/..",
        "/api/models/%2e%2e/tmp",
        "/api/models/kin/child/tree/main/..%2F..",
    ],
)
def test_no_path_leads_out_of_a_repository(endpoint: str, target: str) -> None:
    answer = ask(endpoint, target)
    assert answer.status == 404
    assert json.loads(answer.body).keys() == {"error"}


# --- access -----------------------------------------------------------------------------------


def test_a_gated_repository_shows_its_record_but_not_its_files(
    api: HfApi, endpoint: str, tmp_path: Path
) -> None:
    assert api.model_info("kin/locked").gated == "auto"
    assert len(api.list_repo_files("kin/locked")) == 3
    for token in (False, "hf_wrong"):
        with pytest.raises(GatedRepoError) as caught:
            hf_hub_download(
                "kin/locked", "config.json", endpoint=endpoint, cache_dir=tmp_path, token=token
            )
        assert caught.value.response.status_code == (403 if token else 401)
        with pytest.raises(GatedRepoError):
            api.auth_check("kin/locked", token=token)
    path = hf_hub_download(
        "kin/locked", "config.json", endpoint=endpoint, cache_dir=tmp_path, token="hf_reader"
    )
    assert json.loads(Path(path).read_text())["model_type"] == "tiny"
    api.auth_check("kin/locked", token="hf_reader")


def test_a_disabled_repository_is_listed_but_not_read(api: HfApi) -> None:
    listed = next(iter(api.list_models(search="kin/off", full=True)))
    assert listed.disabled is True
    with pytest.raises(DisabledRepoError):
        api.model_info("kin/off")
    with pytest.raises(DisabledRepoError):
        api.parse_safetensors_file_metadata("kin/off", "model.safetensors")


def test_a_repository_vanishes_between_two_crawls(folder: Path) -> None:
    with running_hub(folder, vanish=True) as endpoint:
        api = HfApi(endpoint=endpoint, token=False)
        assert "kin/ghost" not in {model.id for model in api.list_models()}
        assert len(list(api.list_models())) == 5
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("kin/ghost")


def test_what_only_the_real_hub_knows_is_refused_as_the_client_expects(
    api: HfApi, endpoint: str
) -> None:
    assert ask(endpoint, "/api/agent-harnesses").status == 404
    assert ask(endpoint, "/api/datasets/a/b").headers["X-Error-Code"] == "RepoNotFound"
    assert ask(endpoint, "/api/models/kin/child/discussions").status == 404
    assert ask(endpoint, "/api/models", "POST", b"{}").status == 404
    assert ask(endpoint, WEIGHTS, "POST", b"").status == 405
    assert ask(endpoint, WEIGHTS, "DELETE").status == 405
    assert ask(endpoint, "/api/models/kin/child", "POST", b"").status == 405
    assert ask(endpoint, "/api/models/kin/child", "POST", b"x" * (5 << 20)).status == 413
    with pytest.raises(HfHubHTTPError) as caught:
        api.whoami(token="hf_reader")
    assert caught.value.response.status_code == 401


# --- faults -----------------------------------------------------------------------------------


def test_ranges_can_be_ignored_or_mislabelled(folder: Path) -> None:
    size = (folder / "kin/child/model.safetensors").stat().st_size
    with running_hub(folder, faults=Faults(ignore_ranges=True)) as endpoint:
        answer = ask(endpoint, WEIGHTS, Range="bytes=0-7")
        assert (answer.status, len(answer.body)) == (200, size)
    with running_hub(folder, faults=Faults(corrupt_range=True)) as endpoint:
        answer = ask(endpoint, WEIGHTS, Range="bytes=0-7")
        assert (answer.status, len(answer.body)) == (206, 8)
        assert answer.headers["Content-Range"] == f"bytes 1-7/{size}"


def test_every_nth_request_to_the_api_can_fail(folder: Path) -> None:
    with running_hub(folder, faults=Faults(fail_every=3)) as endpoint:
        statuses = []
        for _ in range(6):
            statuses.append(ask(endpoint, "/api/models/kin/child").status)
            assert ask(endpoint, WEIGHTS, "HEAD").status == 200
        assert statuses == [200, 200, 500, 200, 200, 500]


def test_every_nth_request_can_be_rate_limited(folder: Path) -> None:
    with running_hub(folder, faults=Faults(rate_limit_every=2, retry_after_s=1)) as endpoint:
        normal = ask(endpoint, "/api/models/kin/child")
        limited = ask(endpoint, WEIGHTS)
    assert (normal.status, limited.status) == (200, 429)
    assert limited.headers["Retry-After"] == "1"
    for answer, is_spent in ((normal, False), (limited, True)):
        limit = parse_ratelimit_headers(dict(answer.headers.items()))
        assert limit is not None
        assert (limit.resource_type, limit.limit, limit.window_seconds) == ("api", 500, 300)
        assert (limit.remaining == 0) is is_spent
        assert limit.reset_in_seconds == 1


def test_every_nth_body_can_break_off(folder: Path) -> None:
    with running_hub(folder, faults=Faults(drop_every=2)) as endpoint:
        whole = ask(endpoint, WEIGHTS).body
        assert ask(endpoint, WEIGHTS, "HEAD").status == 200
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(endpoint, WEIGHTS)
        assert caught.value.partial == whole[: len(whole) // 2]
        assert ask(endpoint, WEIGHTS).body == whole


def test_chosen_files_can_be_cut_short(folder: Path, tmp_path: Path) -> None:
    faults = Faults(truncate=frozenset({"model.safetensors"}))
    with running_hub(folder, faults=faults) as endpoint:
        answer = ask(endpoint, WEIGHTS, Range="bytes=0-99")
        assert (answer.status, len(answer.body)) == (206, 50)
        assert answer.headers["Content-Range"].startswith("bytes 0-99/")
        with pytest.raises(OSError, match="Consistency check"):
            hf_hub_download("kin/child", "model.safetensors", endpoint=endpoint, cache_dir=tmp_path)
        assert ask(endpoint, "/kin/child/resolve/main/onnx/deep/notes.txt").body == b"hello"


# --- folders ----------------------------------------------------------------------------------


def test_without_hub_json_the_revision_follows_the_files(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a" / "b", None)
    for path in model.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    with running_hub(tmp_path) as endpoint:
        api = HfApi(endpoint=endpoint, token=False)
        before = api.model_info("a/b", files_metadata=True)
        assert api.model_info("a/b").sha == before.sha
        assert before.created_at == before.last_modified
        assert before.created_at == datetime.fromtimestamp(1_700_000_000, UTC)
        assert (before.downloads, before.likes, before.gated) == (0, 0, False)
        (model / "config.json").write_text('{"model_type": "other"}')
        after = api.model_info("a/b", files_metadata=True)
    assert after.sha != before.sha
    assert after.config == {"model_type": "other"}
    blobs = [
        {file.rfilename: file.blob_id for file in info.siblings or []} for info in (before, after)
    ]
    assert blobs[0]["config.json"] != blobs[1]["config.json"]
    assert blobs[0]["model.safetensors"] == blobs[1]["model.safetensors"]


@pytest.mark.parametrize(
    "card",
    [
        "---\n&a [*a]\n---\n",
        UNFOLDING_CARD,
        "---\nwhen: 2024-99-99\n---\n",
        "---\n? [a, b]\n: c\n---\n",
        "---\n!!python/object/apply:os.system ['true']\n---\n",
        "---\n- a list\n---\n",
        "---\n" + "[" * 1500 + "\n---\n",
        "---\nflag: !!bool perhaps\n---\n",
        "---\nnever: closed\n",
        "no block at all",
    ],
)
def test_hostile_cards_give_no_metadata(tmp_path: Path, card: str) -> None:
    write_model(tmp_path / "a" / "b", card)
    with running_hub(tmp_path) as endpoint:
        info = HfApi(endpoint=endpoint, token=False).model_info("a/b")
    assert info.card_data is None
    assert "region:us" in (info.tags or [])


def test_odd_fields_of_cards_become_plain_json(tmp_path: Path) -> None:
    card = (
        "---\nlicense: [mit, 7]\nlanguage: no\nbase_model: [founders/stem, ../up, 5, 'a b', x/y]\n"
        "day: 2024-05-06\nnumber: .nan\n1: one\n---\n"
    )
    write_model(tmp_path / "a" / "b", card)
    (tmp_path / "a" / "b" / "adapter_config.json").write_text("{}")
    with running_hub(tmp_path) as endpoint:
        record = json.loads(ask(endpoint, "/api/models/a/b").body)
    assert record["cardData"]["day"] == "2024-05-06"
    assert record["cardData"]["number"] is None
    assert record["cardData"]["1"] == "one"
    assert record["cardData"]["language"] is False
    assert [tag for tag in record["tags"] if tag.startswith(("base_model", "license"))] == [
        "base_model:founders/stem",
        "base_model:x/y",
        "base_model:adapter:founders/stem",
        "base_model:adapter:x/y",
        "license:mit",
    ]
    assert record["library_name"] == "peft"


def test_an_adapters_weights_are_not_summarised(tmp_path: Path) -> None:
    model = tmp_path / "a" / "b"
    model.mkdir(parents=True)
    save_file({"lora_A": np.ones((2, 4), np.float32)}, model / "adapter_model.safetensors")
    with running_hub(tmp_path) as endpoint:
        info = HfApi(endpoint=endpoint, token=False).model_info("a/b")
    assert info.safetensors is None


def test_a_repository_that_is_a_link_out_of_the_folder_is_not_served(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to(folder / "kin" / "child")
    (tmp_path / "kin").symlink_to(folder / "kin")
    with running_hub(tmp_path) as endpoint:
        assert json.loads(ask(endpoint, "/api/models").body) == []
        assert ask(endpoint, "/a/b/resolve/main/config.json").status == 404
        assert ask(endpoint, WEIGHTS).status == 404


def test_broken_weights_and_configs_give_no_summary(tmp_path: Path) -> None:
    model = tmp_path / "a" / "b"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"\xff" * 64)
    (model / "model.gguf").write_bytes(b"GGUF\xff")
    (model / "config.json").write_text("[1, 2")
    with running_hub(tmp_path) as endpoint:
        record = json.loads(ask(endpoint, "/api/models/a/b").body)
    assert not record.keys() & {"safetensors", "gguf", "config", "cardData"}
    assert {"safetensors", "gguf"} <= set(record["tags"])


def test_gguf_files_are_summarised(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    model = tmp_path / "a" / "b-GGUF"
    model.mkdir(parents=True)
    writer = gguf.GGUFWriter(str(model / "b.Q8_0.gguf"), "llama")
    writer.add_context_length(128)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with running_hub(tmp_path) as endpoint:
        info = HfApi(endpoint=endpoint, token=False).model_info("a/b-GGUF", expand=["gguf"])
    assert info.gguf == {"total": 256, "architecture": "llama", "context_length": 128}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"models": []}',
        '{"models": {"a/b": 1}}',
        '{"models": {"a/b": {"downloads": -1}}}',
        '{"models": {"a/b": {"likes": true}}}',
        '{"models": {"a/b": {"gated": true}}}',
        '{"models": {"a/b": {"disabled": "yes"}}}',
        '{"models": {"a/b": {"revision": "main"}}}',
        '{"models": {"a/b": {"created_at": "yesterday"}}}',
    ],
)
def test_a_malformed_hub_json_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub.json").write_text(text)
    with pytest.raises(MalformedError, match=r"hub\.json"):
        make_app(tmp_path)


def test_a_folder_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        make_app(tmp_path / "absent")


def test_a_port_that_is_taken_is_reported(folder: Path, endpoint: str) -> None:
    port = urlsplit(endpoint).port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        serve(folder, port=port)


def test_the_hub_stops_quickly_and_answers_without_delay(folder: Path) -> None:
    with running_hub(folder) as endpoint:
        api = HfApi(endpoint=endpoint, token=False)
        api.model_info("kin/child")
        waits = []
        for _ in range(20):
            start = time.perf_counter()
            api.model_info("kin/child")
            waits.append(time.perf_counter() - start)
        start = time.perf_counter()
    stopping_s = time.perf_counter() - start
    assert min(waits) < 0.03  # without TCP_NODELAY each takes 40 ms or more
    assert stopping_s < 2
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=1)
    with pytest.raises(ConnectionError):
        connection.connect()
