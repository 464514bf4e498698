"""The command: quick to start, data on stdout, talk on stderr, one sentence for each failure."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lineage import __version__
from lineage.cli import main
from lineage.cli.main import build_parser
from lineage.cli.output import clean
from lineage.model import Kind
from lineage.pipeline.explore import entry_point
from lineage.pipeline.publish import publish
from lineage.pipeline.reports import report_lines
from lineage.plain import plain
from registers import add_model, found, make_home

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "streamlit", "duckdb", "huggingface_hub", "numpy", "pyarrow")


@pytest.fixture
def home(tmp_path):
    home = make_home(
        tmp_path / "home",
        [found("a/base"), found("a/chat", "a/base"), found("a/mix", "a/base", "a/chat",
                                                           kind=Kind.MERGE)],
        [("a/chat", "a/base")],
    )  # fmt: skip
    publish(home)
    return home


def every_parser(parser=None, path=("herdbook",)):
    parser = parser or build_parser()
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from every_parser(child, (*path, name))


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_start_up_imports_nothing_heavy(flag):
    code = (
        "import sys, contextlib\nfrom lineage.cli import main\n"
        f"with contextlib.suppress(SystemExit): main(['{flag}'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "herdbook" in done.stdout


@pytest.mark.parametrize("parser", [one for _, one in every_parser()], ids=lambda one: one.prog)
def test_every_help_ends_with_an_example(parser):
    assert parser.format_help().rstrip().splitlines()[-1].lstrip().startswith("example: herdbook")


def test_every_example_parses():
    for _, parser in every_parser():
        words = parser.epilog.split("example: herdbook ")[1].split(" > ")[0].split()
        build_parser().parse_args(words)


def test_every_command_is_documented():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for path, parser in every_parser():
        assert f"`{' '.join(path)}" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or option in page, option


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"herdbook {__version__}\n"


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["edges"], ["show", "a/b"], ["explore"], ["evaluate", "t.json"]]
)
def test_without_a_register_one_sentence_and_a_code(command, tmp_path, capsys):
    assert main([*command, "--home", str(tmp_path / "none")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["status", "infer", "measure", "publish", "fingerprint"])
def test_stages_without_a_crawl_say_so(command, tmp_path, capsys):
    assert main([command, "--home", str(tmp_path / "none")]) == 3
    assert "herdbook crawl" in capsys.readouterr().err


def test_an_unwritable_home_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["crawl", "--home", str(tmp_path / "file" / "home")]) == 4
    assert "--home" in capsys.readouterr().err


def test_show_tells_claims_finding_edges_and_evidence(home, capsys):
    assert main(["show", "a/chat", "--home", str(home.root)]) == 0
    out = capsys.readouterr().out
    for words in ("declared:", "found in the weights:", "a/base: finetune", "confirmed", "a/mix"):
        assert words in out
    assert main(["show", "a/chat", "--json", "--home", str(home.root)]) == 0
    detail = json.loads(capsys.readouterr().out)
    assert detail["card"]["repo_id"] == "a/chat"
    assert detail["parents"][0]["verdict"] == "confirmed"


def test_an_unknown_model_brings_near_names(home, capsys):
    assert main(["show", "a/chap", "--home", str(home.root)]) == 3
    assert "did you mean a/chat" in capsys.readouterr().err


def test_edges_in_every_form(home, capsys, monkeypatch):
    assert main(["edges", "--home", str(home.root)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("child\tparent")
    assert main(["edges", "--format", "json", "--home", str(home.root)]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["edges", "--format", "csv", "--home", str(home.root)]) == 0
    assert capsys.readouterr().out.startswith("child,parent,relation,kind,weight,verdict,grade")
    binary = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(binary, write_through=True))
    assert main(["edges", "--format", "parquet", "--home", str(home.root)]) == 0
    assert binary.getvalue().startswith(b"PAR1")


def test_status_counts_models_problems_and_runs(home, capsys):
    with home.open_working() as connection:
        add_model(connection, "g/gated", status="gated")
        connection.execute(
            "INSERT INTO problem VALUES ('g/gated', NULL, 'crawl', NULL, 'gated', 'no', now(),"
            " NULL)"
        )
    assert main(["status", "--json", "--home", str(home.root)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["counts"]["models"] == 4
    assert status["counts"]["gated"] == 1
    assert status["problems"] == [{"stage": "crawl", "code": "gated", "n": 1}]
    assert status["runs"][0]["stage"] == "publish"
    assert main(["status", "--home", str(home.root)]) == 0
    assert "published: herdbook-" in capsys.readouterr().out


def test_evaluate_prints_figures(home, tmp_path, capsys):
    truth = tmp_path / "truth.json"
    truth.write_text('{"models": {"a/base": {"kind": "founder", "parents": []}}}')
    assert main(["evaluate", str(truth), "--home", str(home.root)]) == 0
    assert "direct-parent precision" in capsys.readouterr().out
    truth.write_text("nonsense")
    assert main(["evaluate", str(truth), "--home", str(home.root)]) == 2


def test_compare_of_nothing_is_one_sentence(capsys, tmp_path):
    assert main(["compare", str(tmp_path / "no where"), "b/c"]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_serving_a_folder_that_is_not_there(capsys, tmp_path):
    assert main(["hub", "serve", str(tmp_path / "none")]) == 3


def test_an_interruption_is_no_traceback(home, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lineage.pipeline.show.all_edges", interrupt)
    assert main(["edges", "--home", str(home.root)]) == 130


def test_a_reader_that_goes_away_is_no_traceback(home):
    done = subprocess.run(
        f"{sys.executable} -c 'import sys; from lineage.cli import main; sys.exit(main())' "
        f"edges --format json --home {home.root} | true",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_names_from_strangers_cannot_steer_the_terminal():
    assert clean("a\x1b[2Jb\x07c\u202ed\u200be\nf") == "a[2Jbcde f"


def test_json_has_no_nan():
    assert plain((float("nan"), {"a": Kind.MERGE})) == [None, {"a": "merge"}]


def test_reports_become_sentences(home):
    lines = report_lines("publish", publish(home))
    assert lines[0].startswith("publish: file herdbook-")
    assert lines[1] == "  by verdict: confirmed 1, undeclared 2"


def test_the_explorer_has_an_entry_point():
    assert entry_point().is_file()
