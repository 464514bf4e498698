"""herdbook parse-card: cards and folders on this disk, understood without network or database."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.cli.main import main
from lineage.errors import NotFoundError, UsageError
from lineage.pipeline.parse_card import SCHEMA, find_cards, parse_cards, reading_of

CARD = """---
license: apache-2.0
language: [en, no]
base_model: a/base
tags: [merge]
---
# Mine

Fine-tuned from [base](https://huggingface.co/a/base).

```yaml
merge_method: linear
models:
- {model: a/base, parameters: {weight: 1}}
- {model: /home/me/other, parameters: {weight: 1}}
```
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, "utf-8")
    return folder


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["parse-card", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_card_is_printed_with_claims_recipe_licence_and_problems(tmp_path, capsys):
    write(tmp_path, README__md=CARD)
    code, out, err = run(capsys, tmp_path / "README.md", "--child", "me/mine")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'README.md'}  (me/mine)"
    assert "  licence      Apache-2.0" in lines
    assert "  languages    en, no" in lines
    at = lines.index("    a/base  relation unsaid  [card]")
    assert lines[at + 1] == "        base_model: a/base"
    assert "    a/base  merge  weight 0.5  [card recipe]" in lines
    assert "    /home/me/other  (unresolved)  merge  weight 0.5  [card recipe]" in lines
    assert "    a/base  finetune  [prose]" in lines
    assert "  recipe       linear of a/base, /home/me/other" in lines


def test_the_json_has_the_documented_fields(tmp_path, capsys):
    write(tmp_path, README__md=CARD)
    code, out, _ = run(capsys, tmp_path, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == SCHEMA == 1
    (card,) = document["cards"]
    assert set(card) == {
        "path", "child", "claims", "recipes", "traits", "evaluations", "card", "problems",
    }  # fmt: skip
    assert card["child"] is None
    assert card["claims"][0] == {
        "parent": "a/base",
        "words": "a/base",
        "relation": None,
        "source": "card",
        "text": "base_model: a/base",
        "weight": None,
        "method": None,
    }
    assert card["recipes"][0]["source"] == "card_recipe"
    assert card["recipes"][0]["method"] == "linear"
    assert card["traits"]["licence"] == "Apache-2.0"
    assert card["traits"]["languages"] == ["en", "no"]
    assert card["card"]["sections"] == 1
    assert card["problems"] == []


def test_every_field_of_the_json_stands_in_the_documentation(tmp_path, capsys):
    write(tmp_path, README__md=CARD, adapter_config__json="{")
    _, out, _ = run(capsys, tmp_path, "--json")
    text = (Path(__file__).parent.parent / "docs" / "claims.md").read_text("utf-8")
    (card,) = json.loads(out)["cards"]
    names = {*card, *card["claims"][0], *card["traits"], *card["card"], *card["problems"][0]}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_the_folder_of_a_repository_is_one_reading_with_its_small_files(tmp_path):
    folder = write(
        tmp_path / "repo",
        README__md="---\nbase_model: a/base\n---\n",
        config__json='{"_name_or_path": "b/loaded", "architectures": ["X"]}',
        adapter_config__json='{"base_model_name_or_path": "c/adapted"}',
        mergekit_config__yml="merge_method: linear\nmodels: [{model: d/merged}]",
        quantize_config__json='{"bits": 4, "model_name_or_path": "e/full"}',
        LICENSE__md="# Based on [x](https://hf.co/z/no)",
    )
    (folder / "onnx").mkdir()
    write(folder / "onnx", config__json='{"_name_or_path": "z/inner"}')
    (reading,) = parse_cards([folder], "me/mine")
    assert {(str(claim.source), claim.parent) for claim in reading.claims} == {
        ("card", "a/base"), ("config", "b/loaded"), ("adapter_config", "c/adapted"),
        ("merge_recipe", "d/merged"), ("quantisation_config", "e/full"),
    }  # fmt: skip
    assert {claim.child for claim in reading.claims} == {"me/mine"}
    assert reading.facts.architecture == "X"
    assert reading.problems == ()


def test_a_folder_without_a_card_but_with_an_adapter_is_a_repository(tmp_path):
    folder = write(tmp_path, adapter_config__json='{"base_model_name_or_path": "a/b"}')
    (reading,) = parse_cards([folder])
    assert [claim.parent for claim in reading.claims] == ["a/b"]
    assert reading.shape is None


def test_metadata_of_a_gguf_file_in_the_folder_is_read(tmp_path, shared_data):
    source = shared_data / "gguf-vocab" / "ggml-vocab-phi-3.gguf"
    write(tmp_path, config__json="{}")
    (tmp_path / "a.gguf").write_bytes(source.read_bytes()[: 1 << 20])
    (tmp_path / "b.gguf").write_bytes(b"no GGUF")
    (reading,) = parse_cards([tmp_path])
    assert (reading.claims, reading.problems) == ((), ())
    (tmp_path / "a.gguf").unlink()
    (reading,) = parse_cards([tmp_path])
    assert [problem.path for problem in reading.problems] == ["b.gguf"]


def test_a_folder_of_cards_is_searched_in_order(tmp_path):
    write(tmp_path, README__md="# About this collection", one__md="x", notes__txt="x")
    write(tmp_path / "b" / "c", README__md="x", Other__MD="x")
    write(tmp_path / "a", config__json="{}", README__md="x")
    found = [path.relative_to(tmp_path).as_posix() for path in find_cards([tmp_path])]
    assert found == [".", "one.md", "a", "b/c", "b/c/Other.MD"]


def test_what_does_not_exist_or_holds_no_card_is_said(tmp_path, capsys):
    code, out, err = run(capsys, tmp_path / "none.md")
    assert (code, out) == (3, "")
    assert err == f"herdbook: no file or folder {tmp_path / 'none.md'}\n"
    code, _, err = run(capsys, tmp_path)
    assert (code, err) == (3, f"herdbook: no card (*.md) in {tmp_path}\n")
    with pytest.raises(NotFoundError):
        list(find_cards([tmp_path]))


def test_a_child_must_be_an_id_and_belongs_to_one_card(tmp_path, capsys):
    write(tmp_path, one__md="x", two__md="x")
    assert run(capsys, tmp_path, "--child", "me/mine")[0] == 2
    assert run(capsys, tmp_path / "one.md", "--child", "../x")[0] == 2
    assert run(capsys, tmp_path / "one.md", "--child", "me/mine")[0] == 0
    with pytest.raises(UsageError):
        list(parse_cards([tmp_path / "one.md"], "not an id"))


def test_a_bare_name_of_the_own_model_is_the_model_itself(tmp_path):
    path = write(tmp_path, one__md="---\nbase_model: mine\n---\n") / "one.md"
    (named,), (unnamed,) = parse_cards([path], "me/mine"), parse_cards([path])
    assert [claim.parent for claim in named.claims] == ["me/mine"]
    assert [claim.parent for claim in unnamed.claims] == [None]


def test_what_a_stranger_wrote_cannot_drive_the_terminal(tmp_path, capsys):
    text = "---\nbase_model: 'a\\x1b]0;x\x07/b'\n---\nbased on `a/b-1`\x1b[31m\u202e here"
    write(tmp_path, one__md=text)
    _, out, _ = run(capsys, tmp_path / "one.md")
    assert "a/b-1" in out
    assert not any(character in out for character in "\x1b\x07\u202e")


def test_a_file_that_is_too_long_or_unreadable_is_a_problem(tmp_path):
    folder = write(
        tmp_path, config__json="{" + " " * (9 << 20), README__md="---\nbase_model: a/b\n"
    )
    (reading,) = parse_cards([folder])
    assert [problem.reason for problem in reading.problems] == [
        "config.json: more than 8388608 bytes are too many to read",
        "README.md: the metadata is never closed; 1 of its fields could be read line by line",
    ]
    assert [claim.parent for claim in reading.claims] == ["a/b"]


def test_a_card_of_fifty_megabytes_is_read_at_its_beginning(tmp_path):
    path = tmp_path / "big.md"
    path.write_bytes(b"---\nbase_model: a/b\n---\n" + b"\xff\xfe words " * 6_000_000)
    (reading,) = parse_cards([path])
    assert [claim.parent for claim in reading.claims] == ["a/b"]
    assert [problem.reason for problem in reading.problems] == [
        "README.md: longer than 1048576 characters; the rest was not read"
    ]


def test_the_command_needs_neither_database_nor_torch(tmp_path):
    write(tmp_path, README__md=CARD)
    code = (
        "import sys\nfrom lineage.cli.main import main\n"
        f"assert main(['parse-card', {str(tmp_path)!r}]) == 0\n"
        "print([m for m in ('duckdb', 'torch', 'huggingface_hub', 'streamlit') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_real_cards_are_understood(tmp_path, shared_data):
    with tarfile.open(shared_data / "cards" / "cards.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    readings = list(parse_cards([tmp_path]))
    assert len(readings) == 372
    assert sum(bool(reading.claims) for reading in readings) > 180
    assert not any(reading.problems for reading in readings)
    for reading in readings:
        json.dumps(reading.to_dict(), allow_nan=False)
        assert all(len(line) < 600 for line in reading.lines())


@given(st.text(max_size=300), st.text(max_size=60))
def test_no_text_makes_the_reading_fail(card, config):
    reading = reading_of("x", None, card, config, {"adapter_config.json": config})
    json.dumps(reading.to_dict(), allow_nan=False)
    assert reading.lines()
