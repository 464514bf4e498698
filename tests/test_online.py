"""The image: it holds what the explorer needs and nothing more, and what it runs does run."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from lineage.cli.main import build_parser, main
from lineage.pipeline.health import check_health
from synthetic import make_publication

ROOT = Path(__file__).resolve().parents[1]
PORT = "7860"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in whole.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [rest for word, rest in instructions() if word == name]


def sources() -> list[str]:
    return [word for rest in of("COPY") for word in rest.split()[:-1]]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a file of the folder into the build; the last pattern decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        lets, pattern = pattern.startswith("!"), pattern.removeprefix("!").removeprefix("**/")
        names = [path, *map(str, Path(path).parents)] if "/" in pattern else Path(path).parts
        if any(fnmatch(str(name), pattern) for name in names):
            sent = lets
    return sent


def required() -> set[str]:
    text = (ROOT / "docs" / "space" / "requirements.txt").read_text(encoding="utf-8")
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def depended_on() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}


def test_what_is_copied_is_there_and_is_sent():
    assert sources()
    for source in sources():
        assert (ROOT / source).exists(), source
        files = [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*.py")
        for file in files:
            assert is_sent(file.relative_to(ROOT).as_posix()), file


@pytest.mark.parametrize(
    "path",
    ["home/published/manifest.json", ".git/config", ".env", "token", "tests/conftest.py",
     "lineage/__pycache__/a.pyc", "lineage/x.duckdb", "data/pocket/truth.json",
     ".streamlit/secrets.toml"],
)  # fmt: skip
def test_homes_tokens_and_tests_stay_behind(path):
    assert not is_sent(path)


def test_the_image_runs_as_user_1000_on_the_spaces_port():
    words = [word for word, _ in instructions()]
    assert of("USER") == ["1000"]
    assert words.index("USER") < len(words) - 1 - words[::-1].index("RUN")  # also while it fetches
    assert of("EXPOSE") == [PORT]
    assert "--uid 1000" in " ".join(of("RUN"))
    head = (ROOT / "docs" / "space" / "README.md").read_text(encoding="utf-8").split("---")[1]
    front = yaml.safe_load(head)
    assert (front["sdk"], front["app_port"]) == ("docker", int(PORT))
    assert front["license"] == "apache-2.0"
    assert len(front["short_description"]) <= 60


def test_no_secret_is_asked_for_or_kept():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"token|password|api_key|--mount=type=secret", text, re.IGNORECASE)
    assert [name.partition("=")[2] for name in of("ARG")] == ["", ""]


def test_the_register_is_fetched_by_revision_and_digest_and_cannot_be_written():
    (fetching,) = [rest for rest in of("RUN") if "herdbook fetch" in rest]
    assert 'test -n "$REGISTER" && test -n "$REGISTER_SHA256"' in fetching
    assert '--sha256 "$REGISTER_SHA256"' in fetching
    assert 'chmod -R a-w "$HERDBOOK_HOME"' in fetching


def test_every_command_of_the_image_is_one():
    (fetching,) = [rest for rest in of("RUN") if "herdbook fetch" in rest]
    called = shlex.split(fetching.split("&&")[2].replace("$REGISTER_SHA256", "a" * 64))
    health = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    for command in (called, health, json.loads(of("CMD")[0])):
        assert command[0] == "herdbook"
        build_parser().parse_args(command[1:])
        if command is not called:
            assert PORT in command


def test_what_is_installed_is_declared_and_pinned():
    pinned = {
        re.split(r"==", line)[0].lower().replace("-", "_")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert required() <= depended_on()
    assert required() <= pinned


BLOCKED = """
import importlib.abc, os, sys
refused = []
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            refused.append(name)
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
import lineage.explorer.main as main
import lineage.pipeline.fetch, lineage.pipeline.health, lineage.pipeline.explore, lineage.cli.main
for group in main._PAGES.values():
    for path in group:
        app = AppTest.from_file({app!r}, default_timeout=60)
        app._page_hash = calc_hash(path)
        app.run()
print(",".join(sorted(set(refused))))
"""


def test_the_explorer_needs_nothing_that_the_image_lacks(tmp_path):
    modules = {"pyyaml": "yaml", "scikit-bio": "skbio"}
    names = {modules.get(name, name) for name in depended_on() - required()}
    assert "torch" in names
    home = make_publication(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=names, app=str(ROOT / "app.py"))],
        env={**os.environ, "HERDBOOK_HOME": str(home.root)},
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.strip() == ""


def test_the_images_command_serves_a_register_that_cannot_be_written(tmp_path):
    home = make_publication(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in home.published.iterdir()}
    for path in [*home.root.rglob("*"), home.root]:
        path.chmod(path.stat().st_mode & ~0o222)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [word.replace(PORT, str(port)) for word in json.loads(of("CMD")[0])[1:]]
    environment = {
        **os.environ,
        "HERDBOOK_HOME": str(home.root),
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    }
    server = subprocess.Popen(
        [sys.executable, "-c", "from lineage.cli import main; raise SystemExit(main())", *command],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        pause, until = threading.Event(), time.monotonic() + 60
        while time.monotonic() < until:
            if main(["health", "--home", str(home.root), "--explorer", str(port)]) == 0:
                break
            pause.wait(0.3)
        assert check_health(home, port).n_models == 17
    finally:
        server.terminate()
        server.wait(timeout=20)
        for path in [home.root, *home.root.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert {path.name: path.stat().st_mtime_ns for path in home.published.iterdir()} == before


def test_health_tells_what_is_wrong(tmp_path, capsys):
    where = ["health", "--home", str(tmp_path)]
    assert main(where) == 3
    home = make_publication(tmp_path)
    assert main(where) == 0
    manifest = home.published / "manifest.json"
    fields = json.loads(manifest.read_text())
    beside = {"names": {"file": "names.bin", "sha256": "0" * 64}}
    manifest.write_text(json.dumps(fields | {"companions": beside}))
    assert main(where) == 5
    assert "names.bin is missing" in capsys.readouterr().err
    manifest.write_text(json.dumps(fields))
    database = home.published / fields["file"]
    database.write_bytes(database.read_bytes()[:5_000])
    assert main(where) == 5
    database.unlink()
    assert main(where) == 3


def test_the_page_on_being_online_names_only_what_exists():
    text = (ROOT / "docs" / "online.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:docs|published)/[\w./\-]+|Dockerfile)`", text):
        assert (ROOT / name).exists(), name
    for line in re.findall(r"^    herdbook ([^&\n]*)", text, re.MULTILINE):
        build_parser().parse_args(shlex.split(line))
