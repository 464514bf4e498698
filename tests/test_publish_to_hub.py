"""A register goes to a Hub in one commit and comes back whole, whatever breaks on the way."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.client import Hub
from crawler.errors import NotFoundError as NotOnHubError
from crawler.errors import TruncatedError
from crawler.hub_datasets import DatasetHub
from crawler.hub_server import running_hub
from crawler.publishing import DatasetAddress, DatasetRepository, RefusedError, RemoteFile
from lineage.cli import main
from lineage.errors import HerdbookError, HomeError, NotFoundError, SchemaError, UsageError
from lineage.pipeline.fetch import fetch
from lineage.pipeline.upload import ensure_published, upload
from lineage.store.home import Home
from lineage.store.publication import read_manifest, read_origin
from lineage.store.publish import open_published
from registers import add_run, found, make_home
from synthetic import make_publication

# The Hub's client hands files to httpx in a way that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TOKEN = "hf_theTokenThatMayWrite"
OTHER = "hf_theTokenOfSomebodyElse"
ADDRESS = DatasetAddress("herd/register")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def endpoint(tmp_path, store, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # Parts of 1 MB, so that a register of a few MB goes in several.
    datasets = DatasetHub(store, {TOKEN: "herd", OTHER: "somebody"}, part_bytes=1 << 20)
    with running_hub(tmp_path / "models", datasets=datasets) as address:
        yield address


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A published register with a companion, 1.5 MB of it."""
    home = make_publication(tmp_path_factory.mktemp("template"))
    beside = home.published / "herdbook-1.bin"
    beside.write_bytes(random.Random(0).randbytes(3 << 19))
    path = home.published / "manifest.json"
    fields = json.loads(path.read_text())
    (home.published / fields["file"]).rename(home.published / "herdbook-1.duckdb")
    fields["file"] = "herdbook-1.duckdb"
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    fields["companions"] = {"names": {"file": beside.name, "sha256": digest}}
    path.write_text(json.dumps(fields))
    return home


@pytest.fixture
def home(template, tmp_path):
    shutil.copytree(template.root, tmp_path / "home")
    return Home(tmp_path / "home")


def renew(home: Home, number: int) -> None:
    """Another publication in the same home: one model less, other names."""
    path = home.published / "manifest.json"
    fields = json.loads(path.read_text())
    database = home.published / f"herdbook-{number}.duckdb"
    shutil.copy(home.published / fields["file"], database)
    with duckdb.connect(str(database)) as connection:
        connection.execute("DELETE FROM model WHERE repo_id = 'lonely/unrelated'")
    digest = hashlib.sha256(database.read_bytes()).hexdigest()
    fields |= {"file": database.name, "sha256": digest, "data_date": "2024-12-31T00:00:00Z"}
    path.write_text(json.dumps(fields))


def objects(store: Path) -> dict[str, int]:
    return {
        p.name: p.stat().st_mtime_ns for p in (store / "objects").iterdir() if "." not in p.name
    }


def remote(endpoint: str, revision: str = "main"):
    return DatasetRepository("herd/register", Hub(endpoint)).state(revision)


def test_a_register_comes_back_as_it_went(home, endpoint, tmp_path):
    report = upload(home, ADDRESS, endpoint=endpoint)
    assert report.sent == ("herdbook-1.duckdb", "herdbook-1.bin", "manifest.json")
    assert report.sent_bytes == sum((home.published / name).stat().st_size for name in report.sent)
    there = Home(tmp_path / "there")
    came = fetch(there, DatasetAddress.parse(report.address), endpoint=endpoint)
    assert (came.address, came.sha256, came.n_files) == (report.address, report.sha256, 2)
    for name in report.sent:
        assert (there.published / name).read_bytes() == (home.published / name).read_bytes()
    with open_published(there) as connection:
        assert connection.execute("SELECT count(*) FROM model").fetchall() == [(17,)]
    origin = read_origin(there, read_manifest(there))
    assert f"{origin.address}@{origin.commit}" == report.address


def test_everything_is_one_commit_on_top_of_the_first(home, endpoint, store):
    report = upload(home, ADDRESS, endpoint=endpoint)
    commits = sorted((store / "repos" / "herd" / "register").glob("*.json"))
    assert len(commits) == 2
    state = remote(endpoint)
    assert report.address == f"hf://datasets/herd/register@{state.commit}"
    assert set(state.files) == {
        "README.md", "herdbook-1.duckdb", "herdbook-1.bin", "manifest.json",
    }  # fmt: skip


def test_uploads_are_plain_whatever_the_client_was_told(home, endpoint, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    assert upload(home, ADDRESS, endpoint=endpoint).sent


def test_a_second_upload_of_the_same_changes_nothing(home, endpoint):
    first = upload(home, ADDRESS, endpoint=endpoint)
    second = upload(home, ADDRESS, endpoint=endpoint)
    assert (second.sent, second.sent_bytes, second.address) == ((), 0, first.address)


def test_a_new_register_replaces_the_old_whose_commit_still_answers(home, endpoint, tmp_path):
    first = upload(home, ADDRESS, endpoint=endpoint)
    renew(home, 2)
    second = upload(home, ADDRESS, endpoint=endpoint)
    assert second.deleted == ("herdbook-1.duckdb",)
    assert second.sent == ("herdbook-2.duckdb", "manifest.json")  # the companion is there
    assert "herdbook-1.duckdb" not in remote(endpoint).files
    there = Home(tmp_path / "there")
    for report, n_models in ((second, 16), (first, 17)):
        fetch(there, DatasetAddress.parse(report.address), endpoint=endpoint)
        with open_published(there) as connection:
            assert connection.execute("SELECT count(*) FROM model").fetchall() == [(n_models,)]


def test_files_of_strangers_and_a_written_card_stay(home, endpoint, tmp_path):
    upload(home, ADDRESS, endpoint=endpoint)
    repository = DatasetRepository("herd/register", Hub(endpoint))
    for name in ("README.md", "notes.txt"):
        (tmp_path / name).write_text("written by hand")
    onto = repository.state().commit
    written = {name: tmp_path / name for name in ("README.md", "notes.txt")}
    repository.commit(written, (), "by hand", revision="main", onto=onto)
    renew(home, 2)
    upload(home, ADDRESS, endpoint=endpoint)
    for name in written:
        assert repository.read("main", name, max_bytes=100) == b"written by hand"


def test_a_dry_run_tells_and_sends_nothing(home, endpoint, store):
    report = upload(home, ADDRESS, endpoint=endpoint, dry_run=True)
    assert (report.address, len(report.sent), report.is_dry_run) == (None, 3, True)
    assert not store.exists()
    first = upload(home, ADDRESS, endpoint=endpoint)
    again = upload(home, ADDRESS, endpoint=endpoint, dry_run=True)
    assert (again.sent, again.address) == ((), first.address)


def test_an_upload_that_broke_goes_on_with_the_file_that_is_missing(
    home, endpoint, store, monkeypatch
):
    import huggingface_hub._commit_api as client

    send = client.lfs_upload

    def breaks(operation, **more):
        if operation.path_in_repo.endswith(".bin"):
            raise ConnectionResetError("the cable")
        return send(operation=operation, **more)

    monkeypatch.setattr(client, "lfs_upload", breaks)
    with pytest.raises(HerdbookError, match="the connection to the Hub broke: the cable"):
        upload(home, ADDRESS, endpoint=endpoint)
    assert list(remote(endpoint).files) == []  # nobody sees half of it
    before = objects(store)
    assert list(before) == [read_manifest(home).sha256]
    monkeypatch.setattr(client, "lfs_upload", send)
    upload(home, ADDRESS, endpoint=endpoint)
    assert objects(store).items() > before.items()


def test_who_writes_meanwhile_is_not_overwritten(home, endpoint, tmp_path):
    upload(home, ADDRESS, endpoint=endpoint)
    repository = DatasetRepository("herd/register", Hub(endpoint))
    onto = repository.state().commit
    (tmp_path / "a.txt").write_text("a")
    repository.commit({"a.txt": tmp_path / "a.txt"}, (), "one", revision="main", onto=onto)
    with pytest.raises(RefusedError, match="somebody else has written"):
        repository.commit({"b.txt": tmp_path / "a.txt"}, (), "two", revision="main", onto=onto)


def test_an_upload_is_refused_where_somebody_wrote_since_it_looked(
    home, endpoint, tmp_path, monkeypatch
):
    import lineage.pipeline.upload as stage

    upload(home, ADDRESS, endpoint=endpoint)
    renew(home, 2)
    look = stage._replaced

    def meanwhile(repository, before, digests):
        (tmp_path / "a.txt").write_text("a")
        written = {"a.txt": tmp_path / "a.txt"}
        repository.commit(written, (), "one", revision="main", onto=before.commit)
        return look(repository, before, digests)

    monkeypatch.setattr(stage, "_replaced", meanwhile)
    with pytest.raises(HerdbookError, match="somebody else has written"):
        upload(home, ADDRESS, endpoint=endpoint)
    assert "herdbook-2.duckdb" not in remote(endpoint).files


@pytest.mark.parametrize("large", [True, False])
def test_a_remote_file_is_known_by_its_digest(tmp_path, large):
    local, content = tmp_path / "file", b"what was sent"
    local.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    git = hashlib.sha1(b"blob 13\0" + content, usedforsecurity=False).hexdigest()
    same = RemoteFile("file", 13, sha256 if large else None, git)
    assert same.is_like(local, sha256)
    other = RemoteFile("file", 13, "0" * 64 if large else None, git if large else "0" * 40)
    assert not other.is_like(local, sha256)
    assert not RemoteFile("file", 14, same.sha256, same.blob_id).is_like(local, sha256)


def test_what_did_not_arrive_is_noticed(home, endpoint, monkeypatch):
    state = DatasetRepository.state

    def forgetful(self, revision="main"):
        found = state(self, revision)
        kept = {name: file for name, file in found.files.items() if not name.endswith(".bin")}
        return type(found)(found.commit, kept)

    monkeypatch.setattr(DatasetRepository, "state", forgetful)
    with pytest.raises(HerdbookError, match=r"does not hold what was sent \(herdbook-1.bin\)"):
        upload(home, ADDRESS, endpoint=endpoint)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("hf_unknown", "does not know this token"),
        (OTHER, "may not write there .*rights to write to the namespace"),
    ],
)
def test_a_token_without_the_right_is_told_and_not_quoted(home, endpoint, token, words):
    with pytest.raises(HerdbookError, match=words) as refused:
        upload(home, ADDRESS, endpoint=endpoint, token=token)
    assert token not in str(refused.value)


def test_without_a_token_nothing_is_asked(home, monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UsageError, match="HF_TOKEN"):
        upload(home, ADDRESS, endpoint="http://127.0.0.1:9")


def test_offline_is_a_sentence(home, tmp_path):
    hub = Hub("http://127.0.0.1:9", sleep=lambda seconds: None)
    with pytest.raises(HerdbookError, match=r"not published to .*cannot reach"):
        upload(home, ADDRESS, hub=hub, token=TOKEN)
    with pytest.raises(HerdbookError, match=r"not fetched from .*cannot reach"):
        fetch(Home(tmp_path / "there"), ADDRESS, hub=hub)


def test_an_unknown_branch_or_repository_is_a_sentence(home, endpoint, tmp_path):
    upload(home, ADDRESS, endpoint=endpoint)
    with pytest.raises(HerdbookError, match="Invalid rev id"):
        upload(home, DatasetAddress("herd/register", "dev"), endpoint=endpoint)
    there = Home(tmp_path / "there")
    with pytest.raises(HerdbookError, match="Invalid rev id"):
        fetch(there, DatasetAddress("herd/register", "0" * 40), endpoint=endpoint)
    with pytest.raises(HerdbookError, match="404"):
        fetch(there, DatasetAddress("herd/nothing"), endpoint=endpoint)


def test_a_damaged_publication_is_not_uploaded(home, endpoint, store):
    damaged = bytearray((home.published / "herdbook-1.bin").read_bytes())
    damaged[0] ^= 1
    (home.published / "herdbook-1.bin").write_bytes(damaged)
    with pytest.raises(SchemaError, match=r"herdbook-1\.bin is not what its manifest says"):
        upload(home, ADDRESS, endpoint=endpoint)
    (home.published / "herdbook-1.bin").unlink()
    with pytest.raises(SchemaError, match=r"herdbook-1\.bin is missing"):
        upload(home, ADDRESS, endpoint=endpoint)
    assert not store.exists()


# -- fetching -------------------------------------------------------------------------------------


def commit_by_hand(home, endpoint, **changed):
    """A repository whose manifest was changed by a stranger; the address of its commit."""
    path = home.published / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    repository = DatasetRepository("herd/register", Hub(endpoint))
    repository.create()
    files = {path.name: path for path in sorted(home.published.iterdir())}
    onto = repository.state().commit
    commit = repository.commit(files, (), "by hand", revision="main", onto=onto)
    return DatasetAddress("herd/register", commit)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sha256": "0" * 64}, "did not come as its manifest says"),
        ({"schema_version": 99}, "schema version 99"),
        ({"file": "../../home/x.duckdb"}, "cannot be one"),
        ({"file": "manifest.json"}, "cannot be one"),
        ({"file": ".hidden"}, "cannot be one"),
        ({"file": "not-there.duckdb"}, "lacks the file"),
        ({"sha256": "short"}, "cannot be one"),
        ({"companions": {"names": {"file": "a/b", "sha256": "0" * 64}}}, "cannot be one"),
        ({"companions": 3}, "cannot be read"),
    ],
)
def test_a_register_that_is_not_what_it_says_is_refused_and_the_old_one_stays(
    home, endpoint, tmp_path, changed, words
):
    there = make_publication(tmp_path / "there")
    before = {path.name: path.read_bytes() for path in there.published.iterdir()}
    address = commit_by_hand(home, endpoint, **changed)
    with pytest.raises(SchemaError, match=words):
        fetch(there, address, endpoint=endpoint)
    after = {p.name: p.read_bytes() for p in there.published.iterdir() if p.name[0] != "."}
    assert after == before


def test_a_file_that_is_no_database_is_refused(home, endpoint, tmp_path):
    (home.published / "herdbook-1.duckdb").write_bytes(b"no database")
    digest = hashlib.sha256(b"no database").hexdigest()
    address = commit_by_hand(home, endpoint, sha256=digest)
    with pytest.raises(SchemaError, match="cannot be opened"):
        fetch(Home(tmp_path / "there"), address, endpoint=endpoint)
    assert not (tmp_path / "there" / "published" / "manifest.json").exists()


def test_a_repository_without_a_manifest_is_no_register(home, endpoint, tmp_path):
    repository = DatasetRepository("herd/register", Hub(endpoint))
    repository.create()
    with pytest.raises(NotFoundError, match=r"has no manifest\.json"):
        fetch(Home(tmp_path / "there"), ADDRESS, endpoint=endpoint)


def test_a_digest_that_is_asked_for_is_insisted_on(home, endpoint, tmp_path):
    report = upload(home, ADDRESS, endpoint=endpoint)
    there = Home(tmp_path / "there")
    with pytest.raises(SchemaError, match="nothing was fetched"):
        fetch(there, ADDRESS, endpoint=endpoint, sha256="a" * 64)
    assert not there.published.exists()
    assert fetch(there, ADDRESS, endpoint=endpoint, sha256=report.sha256.upper()).received_bytes


def test_a_fetch_that_broke_goes_on_where_it_stopped(home, endpoint, tmp_path, monkeypatch):
    report = upload(home, ADDRESS, endpoint=endpoint)
    there, size = Home(tmp_path / "there"), (home.published / report.file).stat().st_size
    monkeypatch.setattr("crawler.publishing._CHUNK_BYTES", 1 << 18)
    get_range, starts = Hub.get_range, []

    def breaks(self, address, start, stop):
        starts.append(start)
        if len(starts) == 3:
            raise TruncatedError("the cable")
        return get_range(self, address, start, stop)

    monkeypatch.setattr(Hub, "get_range", breaks)
    with pytest.raises(HerdbookError, match="the cable"):
        fetch(there, ADDRESS, endpoint=endpoint)
    assert not (there.published / "manifest.json").exists()
    came = fetch(there, ADDRESS, endpoint=endpoint)
    companion = (home.published / "herdbook-1.bin").stat().st_size
    assert starts[3] == starts[2] == 1 << 19
    assert came.received_bytes == size - (1 << 19) + companion
    assert fetch(there, ADDRESS, endpoint=endpoint).received_bytes == 0


def test_bytes_that_went_bad_are_not_gone_on_from(home, endpoint, tmp_path):
    report = upload(home, ADDRESS, endpoint=endpoint)
    there = Home(tmp_path / "there")
    there.prepare()
    part = there.published / f".{report.file}.{report.sha256[:16]}.part"
    part.write_bytes(b"bad" * 100)
    with pytest.raises(SchemaError, match="run the command again"):
        fetch(there, ADDRESS, endpoint=endpoint)
    assert fetch(there, ADDRESS, endpoint=endpoint).received_bytes
    (there.published / report.file).unlink()
    part.write_bytes(b"too long" * (1 << 20))
    assert fetch(there, ADDRESS, endpoint=endpoint).received_bytes


def test_a_disk_without_room_and_two_at_once_are_sentences(home, endpoint, tmp_path, monkeypatch):
    import fcntl

    upload(home, ADDRESS, endpoint=endpoint)
    there = Home(tmp_path / "there")
    there.prepare()
    with (there.published / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(HomeError, match="another command"):
            fetch(there, ADDRESS, endpoint=endpoint)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(HomeError, match="1 MB left"):
        fetch(there, ADDRESS, endpoint=endpoint)


def test_the_register_before_is_kept_and_older_ones_go(home, endpoint, tmp_path):
    there = Home(tmp_path / "there")
    for number in (2, 3, 4):
        renew(home, number)
        upload(home, ADDRESS, endpoint=endpoint)
        fetch(there, ADDRESS, endpoint=endpoint)
    databases = sorted(path.name for path in there.published.glob("*.duckdb"))
    assert databases == ["herdbook-3.duckdb", "herdbook-4.duckdb"]
    assert (there.published / "herdbook-1.bin").is_file()


def test_an_origin_is_forgotten_with_its_publication(home, endpoint, tmp_path):
    upload(home, ADDRESS, endpoint=endpoint)
    there = Home(tmp_path / "there")
    fetch(there, ADDRESS, endpoint=endpoint)
    renew(there, 9)
    assert read_origin(there, read_manifest(there)) is None
    for text in ("", "[]", '{"sha256": 1}'):
        (there.published / "origin.json").write_text(text)
        assert read_origin(there, read_manifest(there)) is None


# -- when to publish anew --------------------------------------------------------------------------


def test_a_publication_is_made_anew_only_when_a_stage_has_run_since(tmp_path):
    home = make_home(tmp_path, [found("a/base"), found("a/chat", "a/base")])
    assert ensure_published(home) is not None
    first = read_manifest(home)
    assert ensure_published(home) is None
    assert read_manifest(home) == first
    with home.open_working() as connection:
        add_run(connection, "measure")
    assert ensure_published(home) is not None
    assert read_manifest(home).sha256 != first.sha256
    (home.published / "manifest.json").write_text("{}")
    assert ensure_published(home) is not None


def test_a_fetched_register_without_a_working_database_is_uploaded_as_it_is(home):
    assert ensure_published(home) is None


# -- the commands ----------------------------------------------------------------------------------


def test_publish_fetch_and_health_on_the_command_line(tmp_path, endpoint, capsys):
    home = make_home(tmp_path / "made", [found("a/base"), found("a/chat", "a/base")])
    to = ["--to", "hf://datasets/herd/register", "--endpoint", endpoint, "--home", str(home.root)]
    assert main(["publish", *to, "--dry-run"]) == 3
    assert main(["publish", *to]) == 0
    out, err = capsys.readouterr()
    address = out.strip()
    assert address.startswith("hf://datasets/herd/register@")
    assert f"sent {len(read_manifest(home).files) + 1} files" in err
    assert main(["publish", *to, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["address"] == address
    there = ["--home", str(tmp_path / "there")]
    assert main(["fetch", address, "--endpoint", endpoint, *there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["address"] == address
    assert main(["health", *there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_models"] == 2
    assert main(["health", *there, "--explorer", "9"]) == 1
    assert "no explorer answers on port 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["publish", "--dry-run"],
        ["publish", "--revision", "main"],
        ["publish", "--to", "s3://bucket"],
        ["publish", "--to", "hf://datasets/a/b@main", "--revision", "main"],
        ["fetch", "hf://models/a/b"],
        ["explore", "--from", "nowhere"],
        ["explore", "--endpoint", "http://127.0.0.1:9"],
    ],
)
def test_arguments_that_make_no_sense_are_told(command, home, capsys):
    assert main([*command, "--home", str(home.root)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "hf://", "hf://datasets/a", "hf://datasets/a/b/c", "hf://a/b", "hf://datasets/a/..",
        "hf://datasets/a/b@", "hf://datasets/a/b@..", "hf://datasets/a/b@x y", "datasets/a/b",
        "hf://datasets/a/b@" + "x" * 200, "hf://datasets/a/b?x=1", "https://huggingface.co/a/b",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"hf://datasets/OWNER|no branch"):
        DatasetAddress.parse(text)


@given(
    st.from_regex(r"[a-z0-9]{1,9}/[a-z0-9]{1,9}", fullmatch=True),
    st.sampled_from(["main", "v1.0", "a" * 40]),
)
def test_an_address_reads_as_it_is_written(repo_id, revision):
    for address in (DatasetAddress(repo_id), DatasetAddress(repo_id, revision)):
        assert DatasetAddress.parse(str(address)) == address


# -- the local Hub ---------------------------------------------------------------------------------


def test_the_local_hub_signs_uploads_and_checks_them(endpoint, store):
    import urllib.error
    import urllib.request

    def send(path, body, method="POST", token=TOKEN):
        request = urllib.request.Request(endpoint + path, body, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}

    create = json.dumps({"organization": "herd", "name": "x", "type": "dataset"}).encode()
    assert send("/api/repos/create", create)[0] == 200
    assert send("/api/repos/create", create)[0] == 409
    assert send("/api/repos/create", create, token=OTHER)[0] == 403
    content = b"eleven byte"
    sha256 = hashlib.sha256(content).hexdigest()
    asked = json.dumps({"objects": [{"oid": sha256, "size": 11}]}).encode()
    _, batch = send("/datasets/herd/x.git/info/lfs/objects/batch", asked)
    href = batch["objects"][0]["actions"]["upload"]["href"].removeprefix(endpoint)
    verify = json.dumps({"oid": sha256, "size": 11}).encode()
    assert send(href.replace(sha256, "0" * 64), content, "PUT")[0] == 403
    assert send(href, b"other bytes", "PUT")[0] == 200
    assert send(href[:-1] + "verify", verify)[0] == 400
    line = json.dumps({"key": "lfsFile", "value": {"path": "a", "oid": sha256}}).encode()
    assert send("/api/datasets/herd/x/commit/main", line)[0] == 400
    assert send(href, content, "PUT")[0] == 200
    assert send(href[:-1] + "verify", verify)[0] == 200
    assert send("/api/datasets/herd/x/commit/main", line)[0] == 200
    for path in ("../x", "/etc/passwd", "a/../../b", "", "a\0b"):
        value = {"path": path, "content": "eA=="}
        line = json.dumps({"key": "file", "value": value}).encode()
        assert send("/api/datasets/herd/x/commit/main", line)[0] == 400
    _, batch = send("/datasets/herd/x.git/info/lfs/objects/batch", asked)
    assert "actions" not in batch["objects"][0]
    whole = random.Random(1).randbytes(3 << 19)
    sha256 = hashlib.sha256(whole).hexdigest()
    asked = json.dumps({"objects": [{"oid": sha256, "size": len(whole)}]}).encode()
    _, batch = send("/datasets/herd/x.git/info/lfs/objects/batch", asked)
    action = batch["objects"][0]["actions"]["upload"]
    complete = action["href"].removeprefix(endpoint)
    parts = json.dumps({"oid": sha256, "parts": [{}, {}]}).encode()
    assert send(action["header"]["1"].removeprefix(endpoint), whole[: 1 << 20], "PUT")[0] == 200
    assert send(complete, parts)[0] == 400  # the second part is missing
    assert sha256 not in objects(store)
    for number, start in (("1", 0), ("2", 1 << 20)):
        part = whole[start : start + (1 << 20)]
        assert send(action["header"][number].removeprefix(endpoint), part, "PUT")[0] == 200
    assert send(complete, parts)[0] == 200
    assert sha256 in objects(store)


def test_without_datasets_the_local_hub_has_none(tmp_path):
    (tmp_path / "models").mkdir()
    with running_hub(tmp_path / "models") as endpoint, pytest.raises(NotOnHubError):
        remote(endpoint)
