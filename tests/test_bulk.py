"""What columns and cells of other people's tables are understood as."""

from __future__ import annotations

import csv

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.bulk import (
    FIELDS,
    SYNONYMS,
    Column,
    Field,
    Kind,
    may_be_score,
    normal_name,
    score_name,
    understand,
)
from crawler.bulk_rows import MAX_CELL_CHARACTERS, hub_record, model_named
from crawler.records import is_repo_id
from lineage.store.ingest import is_repo_id_sql

ID_LIKE = st.text(alphabet="aZ09_-./ git@:é\t\0", max_size=110)


def columns(*names, kind="VARCHAR"):
    return [Column(name, kind) for name in names]


@given(st.lists(st.one_of(ID_LIKE, st.from_regex(r"\A[\w.\-]+/[\w.\-]+\Z"), st.text(max_size=12))))
def test_sql_and_python_agree_on_what_a_repository_id_is(texts):
    # Python's $ also matches before a last line feed.
    texts = [text for text in texts if not text.endswith("\n")]
    with duckdb.connect() as connection:
        told = connection.execute(
            f"SELECT {is_repo_id_sql('t')} FROM (SELECT unnest($1::VARCHAR[]) AS t)", [texts]
        ).fetchall()
    assert [is_id for (is_id,) in told] == [is_repo_id(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "a",
        "a/b.git",
        "a/b-",
        "a/b.",
        "a--b/c",
        "a..b/c",
        "../x",
        "a/_b",
        "_a/b",
        "a/b/c",
        "o/" + "n" * 94,
        "o/" + "n" * 95,
        "x" * 10_000,
        "a\tb/c",
        "a/b;DROP TABLE x",
        "é/b",
        "",
    ],
)
def test_sql_and_python_agree_on_ids_at_the_border(text):
    with duckdb.connect() as connection:
        told = connection.execute(f"SELECT {is_repo_id_sql('$1::VARCHAR')}", [text]).fetchall()
    assert told == [(is_repo_id(text),)]


def test_every_field_has_synonyms_in_normal_form_and_a_kind():
    assert set(SYNONYMS) == set(Field) == {field for fields in FIELDS.values() for field in fields}
    for words in SYNONYMS.values():
        assert all(normal_name(word) == word for word in words)


def test_the_columns_of_a_hub_wide_snapshot_are_understood():
    names = (
        "_id", "id", "author", "cardData", "disabled", "gated", "lastModified", "likes",
        "trendingScore", "private", "sha", "config", "downloads", "downloadsAllTime", "tags",
        "pipeline_tag", "library_name", "createdAt", "modelId", "safetensors", "gguf",
        "baseModels", "siblings",
    )  # fmt: skip
    found = understand(Kind.MODELS, columns(*names))
    assert {str(field): name for field, name in found.fields.items()} == {
        "repo_id": "id", "author": "author", "card_data": "cardData", "disabled": "disabled",
        "gated": "gated", "last_modified": "lastModified", "likes": "likes",
        "trending": "trendingScore", "revision": "sha", "config": "config",
        "downloads_30d": "downloads", "downloads_all_time": "downloadsAllTime", "tags": "tags",
        "pipeline_tag": "pipeline_tag", "library": "library_name", "created_at": "createdAt",
        "safetensors": "safetensors", "gguf": "gguf", "base_models": "baseModels",
    }  # fmt: skip


def test_what_a_person_maps_goes_before_synonyms():
    table = columns("id", "Model", "dl", "Hearts", "date")
    found = understand(Kind.DOWNLOADS, table, {"repo_id": "Model", "likes": "", "trending": "dl"})
    assert found.fields[Field.REPO_ID] == "Model"
    assert Field.LIKES not in found.fields
    assert found.fields[Field.TRENDING] == "dl"
    assert Field.DOWNLOADS_30D not in found.fields
    assert found.field_of("id") is None


@pytest.mark.parametrize(
    ("mapped", "message"),
    [
        ({"nonsense": "id"}, "no field"),
        ({"likes": "absent"}, "no column"),
        ({"likes": "id", "trending": "id"}, "twice"),
        ({"tags": "id"}, "no field of downloads"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(mapped, message):
    with pytest.raises(ValueError, match=message):
        understand(Kind.DOWNLOADS, columns("id", "likes"), mapped)


def test_a_table_is_long_only_with_benchmark_and_value():
    long = understand(Kind.SCORES, columns("model", "benchmark", "metric", "score"))
    assert {Field.DATASET, Field.METRIC, Field.VALUE} <= long.fields.keys()
    wide = understand(Kind.SCORES, columns("model", "task", "MMLU"))
    assert not {Field.DATASET, Field.VALUE} & wide.fields.keys()


@pytest.mark.parametrize(
    ("column", "name", "metric", "dataset", "better"),
    [
        ("Average ⬆️", "score/average", "score", "Average ⬆️", None),
        ("MMLU-PRO", "score/mmlu-pro", "score", "MMLU-PRO", None),
        ("arc:challenge|acc_norm", "acc_norm/arc:challenge", "acc_norm", "arc:challenge", True),
        ("WikiText (perplexity)", "perplexity/wikitext", "perplexity", "WikiText", False),
        ("nll/C4", "loss/c4", "nll", "C4", False),
        ("❤️", "score/❤️", "score", "❤️", None),
    ],
)
def test_score_columns_are_named_by_metric_and_data_set(column, name, metric, dataset, better):
    found = score_name(column)
    assert (found.name, found.metric, found.dataset, found.higher_is_better) == (
        name, metric, dataset, better,
    )  # fmt: skip


def test_a_long_tables_metric_names_the_score():
    assert score_name("MMLU", "Accuracy").name == "accuracy/mmlu"


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        ("DOUBLE", True),
        ("DECIMAL(5,2)", True),
        ("JSON", True),
        ("BOOLEAN", False),
        ("DOUBLE[]", False),
        ("STRUCT(a DOUBLE)", False),
        ("TIMESTAMP WITH TIME ZONE", False),
    ],
)
def test_scores_are_columns_of_numbers(kind, may):
    assert may_be_score(Column("MMLU", kind)) is may


@given(st.text(max_size=2_000))
def test_any_column_name_is_bounded_and_named(text):
    assert set(normal_name(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    found = score_name(text)
    assert len(found.name) <= 1_100
    assert found.name.islower() or found.name == found.name.lower()


@given(st.text(max_size=6_000))
def test_any_cell_names_a_valid_repository_or_says_why_not(text):
    found, reason = model_named(text)
    assert (found is None) == bool(reason)
    assert found is None or (is_repo_id(found) and "/" in found)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('<a href="https://evil.example/a/b">owner/name</a>', "owner/name"),
        ('<a target="_blank" href="https://huggingface.co/o/n?x=1#y" style="c">o/n</a>', "o/n"),
        ("<b>owner/name</b>", "owner/name"),
        ("https://huggingface.co/o/n/tree/main", "o/n"),
        ("  o/n\n", "o/n"),
        ("gpt2", "openai-community/gpt2"),
    ],
)
def test_links_addresses_and_old_names_are_read(cell, expected):
    assert model_named(cell) == (expected, "")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "no id"),
        ("<a href=", "not an id"),
        ("x" * (MAX_CELL_CHARACTERS + 1), "too long"),
        ("o/" + "n" * 200, "id too long"),
        ("a\x1b[31m/b", "control characters"),
        ("../../etc/passwd", "not an id"),
        ("o/..", "not an id"),
        ("my-model", "name without owner"),
        ("https://huggingface.co/datasets/o/n", "not an id"),
        ("a/b'; DROP TABLE trait; --", "not an id"),
    ],
)
def test_a_cell_without_a_model_says_why(cell, reason):
    assert model_named(cell) == (None, reason)


def test_hostile_markup_takes_no_time():
    for cell in ("<a " * 1_300, "<" * 4_000, "<a href" * 550, '<a x="' + "a " * 1_900):
        assert model_named(cell)[0] is None


def test_html_names_of_a_leaderboard_give_the_ids_beside_them(shared_data):
    path = shared_data / "leaderboards" / "open-llm-leaderboard-v2-three-scores.csv"
    with path.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 4_576
    named = [row for row in rows if is_repo_id(row["fullname"]) and "/" in row["fullname"]]
    assert [model_named(row["Model"])[0] for row in named] == [row["fullname"] for row in named]


def test_a_row_becomes_a_record_of_the_hub():
    record, unread = hub_record(
        {
            Field.REPO_ID: "o/n",
            Field.TAGS: '["en", "base_model:finetune:a/b"]',
            Field.CARD_DATA: '{"license": "mit", "base_model": ["a/b"]}',
            Field.CONFIG: "{broken",
            Field.GATED: "False",
            Field.PARAMETERS: 12,
            Field.LICENCE: "apache-2.0",
        }
    )
    assert record["tags"] == ["en", "base_model:finetune:a/b"]
    assert record["cardData"] == {"license": "mit", "base_model": ["a/b"]}
    assert record["gated"] is False
    assert record["safetensors"] == {"total": 12}
    assert unread == ("config",)


def test_base_models_between_commas_and_the_hubs_own_reading_count():
    record, _ = hub_record(
        {
            Field.BASE_MODEL: "a/b, c/d",
            Field.BASE_MODELS: '{"relation": "merge", "models": [{"id": "a/b"}, {"id": "c/d"}]}',
        }
    )
    assert record["cardData"] == {"base_model": ["a/b", "c/d"]}
    assert record["tags"] == ["base_model:merge:a/b", "base_model:merge:c/d"]


def test_a_table_without_tags_says_nothing_of_tags():
    record, _ = hub_record({Field.REPO_ID: "o/n"})
    assert not {"tags", "cardData"} & record.keys()


@given(st.dictionaries(st.sampled_from(list(Field)), st.text(max_size=200)))
def test_any_row_becomes_a_record(cells):
    record, _ = hub_record(cells)
    assert isinstance(record["config"], dict)
