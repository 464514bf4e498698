"""Other people's tables, entered whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime

import duckdb
import pytest

from crawler.bulk import Kind
from crawler.hub_server import running_hub
from crawler.records import is_repo_id
from lineage.cli import main
from lineage.errors import HerdbookError, NotFoundError, UsageError
from lineage.pipeline.ingest import IngestOptions, ingest
from lineage.store.home import Home

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
SEEN = datetime(2026, 8, 22, tzinfo=UTC)
NO_COMMIT = "0" * 40
SHA = "ab" * 20
TABLES = ("observation", "trait", "claim", "snapshot", "repository", "problem")


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def rows(home, query):
    with duckdb.connect(str(home.database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def contents(home):
    return {table: sorted(rows(home, f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def read(home, kind, path, **options):
    return ingest(home, Kind(kind), path, IngestOptions(**options), now=NOW)


COUNTS = "repo_id,date,downloads,likes\na/b,2026-08-01,3,1\na/b,2026-08-02T06:00:00Z,4,\n"


def test_counts_land_with_their_times_and_their_file(home, tmp_path):
    report = read(home, "downloads", write(tmp_path / "counts.csv", COUNTS))
    assert dict(report.counts) == {"observations": 2, "known already": 0}
    found = rows(home, "SELECT * FROM observation ORDER BY observed_at")
    assert [(*row[:1], row[1].isoformat(), *row[2:]) for row in found] == [
        ("a/b", "2026-08-01T00:00:00+00:00", 3, None, 1, None, "ingest:counts.csv"),
        ("a/b", "2026-08-02T06:00:00+00:00", 4, None, None, None, "ingest:counts.csv"),
    ]


def test_the_same_file_twice_adds_nothing(home, tmp_path):
    path = write(tmp_path / "counts.csv", COUNTS)
    read(home, "downloads", path)
    before = contents(home)
    assert dict(read(home, "downloads", path).counts) == {"observations": 0, "known already": 2}
    assert contents(home) == before


def test_nothing_is_overwritten_by_another_count_for_the_same_moment(home, tmp_path):
    path = tmp_path / "counts.csv"
    read(home, "downloads", write(path, "id,date,likes\na/b,2026-08-01,1\na/b,2026-08-01,2\n"))
    report = read(home, "downloads", write(path, "id,date,likes\na/b,2026-08-01,9\n"))
    assert dict(report.counts)["known already"] == 1
    assert rows(home, "SELECT likes FROM observation") == [(1,)]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "ndjson.gz", "json", "parquet"])
def test_every_form_of_file_gives_the_same_rows(home, tmp_path, ending):
    path = tmp_path / f"counts.{ending}"
    records = [
        {"repo_id": "a/b", "date": "2026-08-01", "downloads": 3, "likes": 1},
        {"repo_id": "a/b", "date": "2026-08-02T06:00:00Z", "downloads": 4, "likes": None},
    ]
    if ending == "parquet":
        lines = tmp_path / "lines.jsonl"
        lines.write_text("\n".join(map(json.dumps, records)))
        with duckdb.connect() as connection:
            connection.read_json(str(lines)).write_parquet(str(path))
    elif "csv" in ending:
        write(path, COUNTS)
    else:
        text = json.dumps(records) if ending == "json" else "\n".join(map(json.dumps, records))
        write(path, text)
    assert dict(read(home, "downloads", str(path)).counts)["observations"] == 2
    assert rows(home, "SELECT downloads_30d, likes FROM observation ORDER BY observed_at") == [
        (3, 1),
        (4, None),
    ]


def test_counts_without_a_time_are_refused_until_it_is_stated(home, tmp_path):
    path = write(tmp_path / "counts.csv", "id,likes\na/b,1\n")
    with pytest.raises(UsageError, match="--date"):
        read(home, "downloads", path)
    assert not home.database.exists()
    report = read(home, "downloads", path, date=SEEN)
    assert "as stated" in report.time
    named = write(tmp_path / "counts-2026-08-21.csv", "id,likes\na/b,1\n")
    assert "file's name" in read(home, "downloads", named).time
    assert [at.date().isoformat() for (at,) in rows(
        home, "SELECT observed_at FROM observation ORDER BY 1"
    )] == ["2026-08-21", "2026-08-22"]  # fmt: skip


def test_refused_rows_are_counted_by_reason_with_examples(home, tmp_path):
    text = "id,date,likes,dl\n" + "\n".join(
        (
            "a/b,2026-08-01,1,",
            ",2026-08-01,1,",
            "../x,2026-08-01,1,",
            "a/..,2026-08-01,1,",
            f"o/{'n' * 10_000},2026-08-01,1,",
            "c/d,soon,1,",
            "c/d,,1,",
            "c/d,2026-08-01,,",
            "c/d,2026-08-01,many,5.5",
            "c/d,2026-08-02,7.0,many",
            "lonely,2026-08-01,1,",
            "\x1b[31mx/y,2026-08-01,1,",
            "a/b;DROP TABLE observation,2026-08-01,1,",
            "a/b,2026-08-01,1,",
        )
    )
    report = read(home, "downloads", write(tmp_path / "c.csv", text))
    assert {one.reason: one.n for one in report.refused} == {
        "no id": 1, "not an id": 3, "too long": 1, "not a time": 1, "no time": 1, "no counts": 2,
        "name without owner": 1, "control characters": 1, "said before in this file": 1,
    }  # fmt: skip
    assert {one.reason: (one.n, one.examples) for one in report.unread} == {
        "observed_at": (1, ("soon",)),
        "likes": (1, ("many",)),
        "downloads_30d": (2, ("5.5",)),
    }
    assert all(len(example) <= 100 for one in report.refused for example in one.examples)
    assert rows(home, "SELECT repo_id, likes FROM observation ORDER BY 1") == [
        ("a/b", 1),
        ("c/d", 7),
    ]


def test_a_dry_run_counts_the_same_and_writes_nothing(home, tmp_path):
    path = write(tmp_path / "counts.csv", COUNTS)
    dry = read(home, "downloads", path, is_dry_run=True)
    assert not home.root.exists()
    wet = read(home, "downloads", path)
    assert dry.counts == wet.counts
    assert dry.sample == wet.sample
    before = home.database.read_bytes()
    again = read(home, "downloads", path, is_dry_run=True)
    assert dict(again.counts) == {"observations": 0, "known already": 2}
    assert home.database.read_bytes() == before


BAD = "can't do; \"x\" -- ') UNION SELECT"


def test_names_of_files_and_columns_are_never_sql(home, tmp_path):
    folder = tmp_path / "it's [a] folder; --"
    folder.mkdir()
    for ending in ("csv", "jsonl", "parquet"):
        path = folder / f"o'b\"rien[1]*.{ending}"
        record = {"id": "a/b", BAD: 5, "date": "2026-08-01"}
        if ending == "csv":
            text = io.StringIO()
            csv.writer(text).writerows([record.keys(), record.values()])
            write(path, text.getvalue())
        else:
            lines = path if ending == "jsonl" else tmp_path / "lines.jsonl"
            lines.write_text(json.dumps(record))
            if ending == "parquet":
                with duckdb.connect() as connection:
                    source = connection.read_json(str(lines))
                    source.write_parquet(str(tmp_path / "p.parquet"))
                (tmp_path / "p.parquet").rename(path)
        report = read(home, "downloads", str(path), mapped={"likes": BAD})
        assert dict(report.counts)["observations"] == 1, ending
        scores = read(home, "scores", str(path))
        assert dict(scores.counts)["traits"] == 1, ending
    assert rows(home, "SELECT DISTINCT likes FROM observation") == [(5,)]
    assert {name for (name,) in rows(home, "SELECT name FROM trait")} == {f"score/{BAD.lower()}"}


def faulty(tmp_path):
    good = ("id,date,likes\n" + "a/b,2026-08-01,1\n" * 5_000).encode()
    packed = gzip.compress(good)
    (tmp_path / "folder.csv").mkdir()
    return {
        "truncated.csv.gz": packed[: len(packed) // 2],
        "no-gzip.csv.gz": good,
        "latin.csv": good + "é/b,2026-08-01,1\n".encode("latin-1"),
        "utf16.csv": good.decode().encode("utf-16"),
        "ragged.csv": good + b"a/b,2026\n",
        "half-quote.csv": good + b'"a/b,2026-08-01,1\n',
        "half.jsonl": b'{"id":"a/b","date":"2026-08-01","likes":1}\n{"id":"a',
        "array.jsonl": b'{"id":"a/b","date":"2026-08-01","likes":1}\n[1]\n',
        "words.json": b'"a/b"',
        "not.parquet": b"PAR1 is not enough PAR1",
        "empty.csv": b"",
        "empty.csv.gz": b"",
        "empty.parquet": b"",
        "empty.jsonl": b"",
        "blank.csv": b"\n\n",
        "no-id.csv": b"a,b\n1,2\n",
        "unknown.xlsx": b"PK",
        "folder.csv": None,
    }


def test_what_cannot_be_read_gives_one_sentence_and_leaves_the_register_alone(
    home, tmp_path, capsys
):
    read(home, "downloads", write(tmp_path / "counts.csv", COUNTS))
    before = contents(home)
    for name, data in faulty(tmp_path).items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for kind in ("downloads", "models", "scores"):
            code = main(
                [
                    "ingest", kind, str(tmp_path / name),
                    "--date", "2026-08-22", "--home", str(home.root),
                ]
            )  # fmt: skip
            out, err = capsys.readouterr()
            assert code in (1, 2), (name, kind)
            assert out == ""
            assert err.count("\n") == 1, err
            assert len(err) < 1_000
    assert contents(home) == before


def test_what_is_not_there_is_said(home, tmp_path):
    for path in (str(tmp_path / "none.csv"), str(tmp_path / "*.parquet")):
        with pytest.raises(NotFoundError):
            read(home, "scores", path)
    with pytest.raises(UsageError, match="hf://"):
        read(home, "scores", "https://example.org/x.csv")


def test_a_file_that_ends_badly_after_many_rows_writes_none_of_them(home, tmp_path):
    lines = [json.dumps({"id": f"o/m{i}", "likes": 1}) for i in range(120_000)]
    path = tmp_path / "models.jsonl"
    path.write_text("\n".join([*lines, '{"id": "o/x", "likes": [']))
    for kind in ("models", "downloads"):
        with pytest.raises(HerdbookError, match="cannot be read"):
            read(home, kind, str(path), date=SEEN)
    assert not home.database.exists() or not any(contents(home).values())


def test_a_failure_while_writing_leaves_nothing_of_the_file(home, tmp_path, monkeypatch):
    read(home, "downloads", write(tmp_path / "counts.csv", COUNTS))
    before = contents(home)

    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lineage.pipeline.ingest_models.enter_removed", fail)
    with pytest.raises(KeyboardInterrupt):
        read(home, "models", models_file(tmp_path, FIRST), date=SEEN)
    assert contents(home) == before
    unfinished = "SELECT count(*) FROM run WHERE finished_at IS NULL"
    assert rows(home, unfinished) == [(1,)]


def test_a_pattern_reads_several_files(home, tmp_path):
    for day in ("01", "02"):
        write(tmp_path / f"c{day}.csv", f"id,date,likes\na/b,2026-08-{day},1\n")
    report = read(home, "downloads", str(tmp_path / "c*.csv"))
    assert dict(report.counts)["observations"] == 2


def test_keys_are_looked_up_in_another_table(home, tmp_path):
    counts = "slug,date,likes\nx,2026-08-01,1\ny,2026-08-01,1\nz,2026-08-01,1\n,2026-08-01,1\n"
    path = write(tmp_path / "counts.csv", counts)
    names = write(tmp_path / "names.csv", "id,slug\na/b,x\na/b,x\nc/d,y\nc/e,y\n")
    with pytest.raises(UsageError, match="--names"):
        read(home, "downloads", path)
    report = read(home, "downloads", path, names=names)
    assert {one.reason: one.n for one in report.refused} == {
        "key of several": 1, "unknown key": 1, "no key": 1,
    }  # fmt: skip
    assert rows(home, "SELECT repo_id FROM observation") == [("a/b",)]


def test_a_wide_table_of_scores_becomes_traits(home, tmp_path):
    text = (
        "Model,Average ⬆️,MMLU,WikiText (ppl),#Params (B),Type,Model sha,date\n"
        f"a/b,50.5,nan,12.5,7,chat,{SHA},2026-08-01\n"
        f"a/b,51.5,60,12.5,7,chat,{SHA},2026-08-03\n"
        "c/d,0,,inf,7,chat,main,\n"
    )
    path = write(tmp_path / "board.csv", text)
    report = read(home, "scores", path, lower_is_better=("MMLU",))
    assert dict(report.counts) == {
        "traits": 4, "newer than known": 0, "known already": 0, "superseded in this file": 2,
    }  # fmt: skip
    found = rows(home, "SELECT * REPLACE (observed_at::DATE::VARCHAR AS observed_at) FROM trait"
                 " ORDER BY repo_id, name")  # fmt: skip
    source = "ingest:board.csv"
    assert found == [
        ("a/b", "ppl/wikitext", 12.5, "ppl", "WikiText", False, source, SHA, "2026-08-03"),
        ("a/b", "score/average", 51.5, "score", "Average ⬆️", None, source, SHA, "2026-08-03"),
        ("a/b", "score/mmlu", 60.0, "score", "MMLU", False, source, SHA, "2026-08-03"),
        ("c/d", "score/average", 0.0, "score", "Average ⬆️", None, source, NO_COMMIT, "2026-09-01"),
    ]
    assert [(one.reason, one.n) for one in report.unread] == [("ppl/wikitext", 1)]
    assert dict(read(home, "scores", path).counts)["traits"] == 0


def test_a_later_score_replaces_an_earlier_one_and_never_the_reverse(home, tmp_path):
    path = tmp_path / "board.csv"
    for date, value in (("2026-08-02", 2), ("2026-08-03", 3), ("2026-08-01", 1)):
        read(home, "scores", write(path, f"model,MMLU,date\na/b,{value},{date}\n"))
    assert rows(home, "SELECT value FROM trait") == [(3.0,)]


def test_a_long_table_of_scores_becomes_the_same_traits(home, tmp_path):
    text = (
        "model,benchmark,metric,score\na/b,MMLU,acc,60\na/b,MMLU,,61\na/b,C4,nll,2.5\n"
        "c/d,MMLU,acc,\nc/d,,acc,5\n"
    )
    report = read(home, "scores", write(tmp_path / "long.csv", text))
    assert {one.reason: one.n for one in report.refused} == {"no score": 2}
    assert rows(home, "SELECT name, value, higher_is_better FROM trait ORDER BY name") == [
        ("acc/mmlu", 60.0, True),
        ("loss/c4", 2.5, False),
        ("score/mmlu", 61.0, None),
    ]


def test_columns_of_words_are_no_scores_and_chosen_columns_alone_are(home, tmp_path):
    text = "model,A,B,Note\na/b,1,2,good\nc/d,3,x,5\ne/f,4,y,fine\n"
    path = write(tmp_path / "board.csv", text)
    report = read(home, "scores", path, is_dry_run=True)
    assert [use.column for use in report.columns if use.meaning is None] == ["B", "Note"]
    chosen = read(home, "scores", path, scores=("B",))
    assert dict(chosen.counts)["traits"] == 1
    with pytest.raises(UsageError, match="no column"):
        read(home, "scores", path, scores=("absent",))


def models_file(tmp_path, *records, name="models.jsonl"):
    return write(tmp_path / name, "\n".join(json.dumps(record) for record in records))


FIRST = {
    "id": "me/child", "sha": SHA, "lastModified": "2026-08-01T00:00:00Z", "likes": 2,
    "createdAt": "2026-07-01T00:00:00Z", "gated": "auto", "downloads": 7, "downloadsAllTime": 70,
    "tags": ["en", "base_model:a/b", "base_model:finetune:a/b", "license:mit"],
    "cardData": '{"base_model": "a/b", "language": ["en"]}', "library_name": "transformers",
    "config": '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
    "safetensors": {"parameters": {"BF16": 10}, "total": 10}, "trendingScore": 1.5,
}  # fmt: skip


def test_an_unknown_model_is_entered_with_state_counts_and_claims(home, tmp_path):
    report = read(home, "models", models_file(tmp_path, FIRST), date=SEEN)
    assert dict(report.counts)["new models"] == 1
    assert rows(
        home,
        "SELECT repo_id, revision, status, gated, licence, library, architecture, model_type,"
        " parameters, dtype, languages FROM snapshot",
    ) == [
        ("me/child", SHA, "ok", "auto", "MIT", "transformers", "LlamaForCausalLM", "llama", 10,
         "BF16", ["en"]),
    ]  # fmt: skip
    assert rows(home, "SELECT * EXCLUDE (observed_at) FROM observation") == [
        ("me/child", 7, 70, 2, 1.5, "ingest:models.jsonl")
    ]
    assert rows(
        home, "SELECT parent, relation, source, text, revision, ended_at FROM claim ORDER BY source"
    ) == [
        ("a/b", None, "card", "base_model: a/b", SHA, None),
        ("a/b", "finetune", "tag", "base_model:finetune:a/b", SHA, None),
    ]


def test_a_later_change_ends_claims_and_an_older_file_turns_nothing_back(home, tmp_path):
    read(home, "models", models_file(tmp_path, FIRST), date=SEEN)
    later = FIRST | {
        "lastModified": "2026-08-25T00:00:00Z", "sha": "cd" * 20, "tags": ["base_model:merge:c/d"],
        "cardData": '{"base_model": "c/d"}',
    }  # fmt: skip
    path = models_file(tmp_path, later, name="later.jsonl")
    report = read(home, "models", path, date=datetime(2026, 8, 30, tzinfo=UTC))
    assert dict(report.counts)["changed models"] == 1
    standing = "SELECT parent, relation FROM claim WHERE ended_at IS NULL ORDER BY source"
    assert rows(home, standing) == [("c/d", None), ("c/d", "merge")]
    ended = rows(home, "SELECT count(*), max(ended_at)::DATE::VARCHAR FROM claim"
                 " WHERE ended_at IS NOT NULL")  # fmt: skip
    assert ended == [(2, "2026-08-30")]
    before = contents(home)
    report = read(home, "models", models_file(tmp_path, FIRST), date=SEEN)
    assert dict(report.counts)["models with nothing new"] == 1
    assert contents(home) == before


def test_a_newer_tombstone_is_not_turned_back_by_a_file_made_before_it(home, tmp_path):
    read(home, "models", models_file(tmp_path, FIRST), date=SEEN)
    gone = {"id": "me/child", "removed": True, "removed_at": "2026-08-28T00:00:00Z"}
    path = models_file(tmp_path, gone, name="gone.jsonl")
    for expected in (1, 0):
        report = read(home, "models", path, date=datetime(2026, 8, 30, tzinfo=UTC))
        assert dict(report.counts)["tombstones"] == expected
    older = FIRST | {"lastModified": "2026-08-24T00:00:00Z"}
    path = models_file(tmp_path, older, name="older.jsonl")
    read(home, "models", path, date=datetime(2026, 8, 25, tzinfo=UTC))
    states = rows(home, "SELECT status, observed_at::DATE::VARCHAR FROM snapshot ORDER BY 2")
    assert states == [("ok", "2026-08-22"), ("gone", "2026-08-28")]
    assert rows(home, "SELECT status FROM repository") == [("gone",)]


def test_of_a_model_twice_the_latest_change_counts(home, tmp_path):
    newer = FIRST | {"lastModified": "2026-08-09T00:00:00Z", "library_name": "peft"}
    report = read(home, "models", models_file(tmp_path, FIRST, newer, FIRST), date=SEEN)
    assert {one.reason: one.n for one in report.refused} == {"model of another row": 2}
    assert rows(home, "SELECT library FROM snapshot") == [("peft",)]


def test_a_dry_run_of_models_counts_what_a_real_one_writes(home, tmp_path):
    path = models_file(tmp_path, FIRST, {"id": "x/y"}, {"id": "bad id"})
    dry = read(home, "models", path, date=SEEN, is_dry_run=True)
    assert not home.root.exists()
    wet = read(home, "models", path, date=SEEN)
    assert (dry.counts, dry.refused, dry.sample) == (wet.counts, wet.refused, wet.sample)


def test_tables_with_the_id_alone_and_broken_cells_are_read(home, tmp_path):
    records = [{"id": f"o/m{i}", "config": "{" * 50, "tags": "en, de", "createdAt": "?"}
               for i in range(3)]  # fmt: skip
    report = read(home, "models", models_file(tmp_path, *records), date=SEEN)
    assert dict(report.counts)["new models"] == 3
    assert ("config", 3) in [(one.reason, one.n) for one in report.unread]
    assert rows(home, "SELECT DISTINCT tags FROM snapshot") == [(["en", "de"],)]


def test_a_table_on_a_hub_is_read_through_its_client(home, tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "me" / "tables"
    folder.mkdir(parents=True)
    lines = models_file(tmp_path, FIRST, {**FIRST, "id": "me/other"})
    with duckdb.connect() as connection:
        connection.read_json(lines).write_parquet(str(folder / "models-2026-08-22.parquet"))
    write(folder / "counts.csv.gz", COUNTS)
    with running_hub(tmp_path / "hub") as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        report = read(home, "models", "hf://me/tables/models-2026-08-22.parquet")
        assert dict(report.counts)["new models"] == 2
        assert "file's name" in report.time
        pattern = read(home, "models", "hf://me/tables/*.parquet", date=SEEN, is_dry_run=True)
        assert pattern.n_rows == 2
        counts = read(home, "downloads", "hf://me/tables/counts.csv.gz", endpoint=endpoint)
        assert dict(counts.counts)["observations"] == 2
        for absent in ("me/tables/none.parquet", "me/none/x.parquet", "datasets/me/tables/x.csv"):
            with pytest.raises(NotFoundError, match="there is no file hf://"):
                read(home, "models", f"hf://{absent}", date=SEEN)
    sources = rows(home, "SELECT DISTINCT source FROM observation ORDER BY 1")
    assert sources == [("ingest:counts.csv.gz",), ("ingest:models-2026-08-22.parquet",)]


def test_a_hub_that_is_not_there_is_one_sentence(home, capsys):
    for name in ("x.csv", "x.parquet"):
        arguments = ["ingest", "scores", f"hf://me/tables/{name}", "--home", str(home.root)]
        assert main([*arguments, "--endpoint", "http://127.0.0.1:9"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "ConnectError" in err


def test_the_command_shows_what_was_understood(home, tmp_path, capsys):
    path = write(tmp_path / "counts.csv", COUNTS + "../x,2026-08-01,1,\x1b[31m\n")
    arguments = ["ingest", "downloads", path, "--dry-run", "--home", str(home.root)]
    assert main(arguments) == 0
    out, _ = capsys.readouterr()
    for words in ("dry run", "downloads_30d", "would write: observations 2", "not an id 1", "a/b"):
        assert words in out
    assert "\x1b" not in out
    assert main([*arguments, "--json", "--map", "likes=,trending=likes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["column"]: one["meaning"] for one in found["columns"]}["likes"] == "trending"
    assert str(tmp_path) not in json.dumps(found)


def plain_rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def radar(shared_data, tmp_path_factory):
    """A register with everything of the radar's, and the reports."""
    folder, home = shared_data / "radar", Home(tmp_path_factory.mktemp("radar"))
    series = read(
        home, "downloads", str(folder / "timeseries_from_index.csv.gz"),
        names=str(folder / "models.jsonl.gz"),
    )  # fmt: skip
    models = read(home, "models", str(folder / "models.jsonl.gz"), date=SEEN)
    with gzip.open(folder / "models.jsonl.gz", "rt", encoding="utf-8") as opened:
        records = [json.loads(line) for line in opened]
    return home, series, models, records


def test_every_observation_of_the_real_series_lands(radar, shared_data):
    home, report, _, records = radar
    ids = {record["slug"]: record["id"] for record in records}
    series = plain_rows(shared_data / "radar" / "timeseries_from_index.csv.gz")
    expected = {
        (ids[row["slug"]], row["snapshot_updated_at"], int(row["downloads_30d"]), int(row["likes"]))
        for row in series
        if row["slug"] in ids and is_repo_id(ids[row["slug"]])
    }
    found = rows(
        home,
        "SELECT repo_id, strftime(observed_at, '%Y-%m-%dT%H:%M:%S.%gZ'), downloads_30d, likes"
        " FROM observation WHERE source = 'ingest:timeseries_from_index.csv.gz'",
    )
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    assert report.n_rows == len(series) == 180_363
    assert report.n_rows == report.n_accepted + sum(one.n for one in report.refused)
    refused = {one.reason: one.n for one in report.refused}
    # Two of the fourteen files of the series were made at one moment and say the same.
    again = sum(
        is_repo_id(ids.get(row["slug"], ".")) for row in series if row["commit"].startswith("f665d")
    )
    assert refused["said before in this file"] == again
    assert refused["unknown key"] == sum(row["slug"] not in ids for row in series) == 18
    assert "another count for the same moment" not in refused


def test_every_real_model_lands_once_with_tombstones(radar):
    home, _, report, records = radar
    valid = [record for record in records if is_repo_id(record["id"])]
    assert len(records) == report.n_rows == 15_904
    assert dict(report.counts)["new models"] == len(valid)
    assert rows(home, "SELECT count(*), count(DISTINCT repo_id) FROM repository") == [
        (len(valid), len(valid))
    ]
    gone = {
        repo_id for (repo_id,) in rows(home, "SELECT repo_id FROM repository WHERE status = 'gone'")
    }
    assert gone == {record["id"] for record in valid if record["removed"]}
    counts = rows(
        home, "SELECT repo_id, downloads_30d, likes FROM observation"
        " WHERE source = 'ingest:models.jsonl.gz'",
    )  # fmt: skip
    assert sorted(counts) == sorted(
        (record["id"], record["downloads_30d"], record["likes"]) for record in valid
    )
    parameters = rows(home, "SELECT repo_id, parameters FROM snapshot WHERE parameters IS NOT NULL")
    assert dict(parameters) == {
        record["id"]: record["parameters"] for record in valid if record["parameters"]
    }


def test_claims_from_real_tags_are_the_edges_that_others_read_from_them(radar, shared_data):
    home, _, _, records = radar
    edges = {
        (row["child"], row["parent"], row["relation_tag"])
        for row in plain_rows(shared_data / "radar" / "edges_from_tags.csv.gz")
        if is_repo_id(row["child"])
    }
    claims = {
        (child, parent, relation or "")
        for child, parent, relation in rows(
            home, "SELECT child, parent_text, relation FROM claim WHERE source = 'tag'"
        )
    }
    assert claims <= edges
    # A record's tags are read up to a bound; a model of more languages than that loses its parent.
    many = {record["id"] for record in records if len(record["tags"]) > 500}
    assert {child for child, _, _ in edges - claims} <= many
    assert len(edges - claims) <= 2


def test_leaderboards_are_understood(home, shared_data):
    folder = shared_data / "leaderboards"
    one = read(home, "scores", str(folder / "open-llm-leaderboard-v1.csv"))
    with (folder / "open-llm-leaderboard-v1.csv").open(encoding="utf-8", newline="") as opened:
        plain = list(csv.DictReader(opened))
    named = [row for row in plain if is_repo_id(row["Model"])]
    # The Hub redirects gpt2, gpt2-xl and distilgpt2; one of them stands under both names.
    assert (one.n_rows, one.n_accepted) == (7_169, len(named))
    assert one.n_models == 6_810
    commits = {(row["Model"] if "/" in row["Model"] else "old", row["Model sha"]) for row in named}
    distinct = dict(one.counts)["traits"]
    assert distinct + dict(one.counts)["superseded in this file"] == 7 * len(named)
    assert 7 * (len(commits) - 4) <= distinct <= 7 * (len(commits) + 4)
    two = read(home, "scores", str(folder / "open-llm-leaderboard-v2-three-scores.csv"), date=SEEN)
    assert two.n_rows == 4_576
    assert {one.reason for one in two.refused} <= {"id too long"}
    assert two.n_accepted + sum(one.n for one in two.refused) == two.n_rows
    base = read(home, "scores", str(folder / "base-llm-benchmarks.csv"), date=SEEN)
    assert (base.n_models, dict(base.counts)["traits"]) == (107, 107 * 8 - 2 - 29 - 34)
    golden = rows(
        home,
        "SELECT name, value, revision, observed_at::VARCHAR FROM trait"
        " WHERE repo_id = 'paloalma/Le_Triomphant-ECE-TW3' AND source LIKE '%v1.csv' ORDER BY name",
    )
    names = ("arc", "average", "gsm8k", "hellaswag", "mmlu", "truthfulqa", "winogrande")
    values = (78.5, 81.31, 79.83, 90.3, 77.81, 76.94, 84.61)
    assert [(name, value) for name, value, _, _ in golden if name != "score/truthfulqa"][:5] == [
        (f"score/{name}", value) for name, value in zip(names, values, strict=True)
    ][:5]
    assert {row[2:] for row in golden} == {
        ("aa4d9084fcfb69afff6b2bac5c1350bf29a159cb", "2024-05-05 12:22:44+00")
    }
    assert rows(
        home, "SELECT value FROM trait WHERE repo_id = 'maldv/Awqward2.5-32B-Instruct'"
        " AND name = 'score/math lvl 5'",
    ) == [(62.311178247734134,)]  # fmt: skip
    assert rows(
        home, "SELECT name FROM trait WHERE repo_id = 'meta-llama/Meta-Llama-3-70B'"
        " AND name LIKE '%arc%' AND source = 'ingest:base-llm-benchmarks.csv'",
    ) == []  # fmt: skip
