"""The index of names: what is typed, whole or in part, mistyped or hostile, finds its models."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.errors import SchemaError
from lineage.store.name_index import NameIndex, build_name_index

NAMES = [
    ("mistralai/Mistral-7B-v0.1", 900), ("mistralai/Mistral-7B-Instruct-v0.2", 500),
    ("TheBloke/Mistral-7B-v0.1-GGUF", 0), ("meta/Llama-3-8B", 800), ("x/llama", 1),
    ("zen/chat", 7), ("zen/chat-v2", 3), ("gpt2", 300), ("quote/it's \"here\"", 0),
    ("markup/<img src=x onerror=alert(1)>", 0), ("percent/100%_sure", 0), ("rtl/\u202eevil", 0),
    ("accents/Éclair-ß", 0), ("long/" + "n" * 500, 0),
    # These share the pieces of the long word that are looked up.
    ("alike/abcdefghijklmnopqrst", 9), ("alike/abcd----ijkl----qrst", 8),
    ("alike/qrst-abcd-ijkl", 7),
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    with duckdb.connect(str(folder / "db")) as connection:
        connection.execute(
            "CREATE TABLE model (repo_id VARCHAR, n_descendants INTEGER, downloads_30d BIGINT)"
        )
        connection.executemany("INSERT INTO model VALUES (?, ?, NULL)", NAMES)
    build_name_index(folder / "db", folder / "names.sqlite")
    made = NameIndex(folder / "names.sqlite")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "how", "first"),
    [
        ("gpt2", "exact", "gpt2"),
        ("ZEN/CHAT", "exact", "zen/chat"),
        ("chat", "exact", "zen/chat"),
        ("mistral", "prefix", "mistralai/Mistral-7B-v0.1"),
        ("mistral-7b-v", "prefix", "mistralai/Mistral-7B-v0.1"),
        ("ll", "prefix", "meta/Llama-3-8B"),
        ("instruct", "substring", "mistralai/Mistral-7B-Instruct-v0.2"),
        ("mistral gguf", "substring", "TheBloke/Mistral-7B-v0.1-GGUF"),
        ("gguf mistral 7b", "substring", "TheBloke/Mistral-7B-v0.1-GGUF"),
        ("8b", "substring", "meta/Llama-3-8B"),
        ("mitsral-7b", "near", "mistralai/Mistral-7B-v0.1"),
        ("mistrl-7b-instruct", "near", "mistralai/Mistral-7B-Instruct-v0.2"),
        ("llsma-3-8b", "near", "meta/Llama-3-8B"),
        ("éclair", "prefix", "accents/Éclair-ß"),
        ('it\'s "here"', "exact", 'quote/it\'s "here"'),
        ("<img src=x", "prefix", "markup/<img src=x onerror=alert(1)>"),
        ("100%_", "prefix", "percent/100%_sure"),
    ],
)
def test_what_is_typed_finds_its_model(index, text, how, first):
    match, name = index.search(text)[0]
    assert (match, name) == (how, first)


def test_the_groups_come_in_order_and_each_name_once(index):
    found = index.search("llama")
    assert found == [("exact", "x/llama"), ("prefix", "meta/Llama-3-8B")]
    assert len(index.search("mistral", limit=2)) == 2


@pytest.mark.parametrize("text", ["", "  ", "\0", "zq", "entirely different words", "%", "_"])
def test_what_no_name_resembles_finds_none_of_it(index, text):
    assert [name for _, name in index.search(text)] in ([], ["percent/100%_sure"])


def test_underscores_and_percents_are_letters(index):
    assert [name for _, name in index.search("%_")] == ["percent/100%_sure"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_every_text_is_text(index, text):
    for match, name in index.search(text):
        folded = " ".join(text.replace("\0", " ").casefold().split())
        if match == "exact":
            assert folded in {name.casefold(), name.casefold().partition("/")[2]}
        if match == "substring":
            assert all(word in name.casefold() for word in folded.split())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 40), st.integers(3, 40))
def test_a_part_of_a_name_finds_all_names_that_hold_it(index, row, start, length):
    part = row[0][start : start + length]
    words = part.casefold().split()
    if not words or min(map(len, words)) < 3:
        return
    holding = {name for name, _ in NAMES if all(word in name.casefold() for word in words)}
    assert {name for _, name in index.search(part)} == holding


@given(st.sampled_from(NAMES[:3]), st.integers(4, 20), st.sampled_from(["swap", "drop", "double"]))
def test_one_mistake_in_a_name_still_finds_it(index, row, place, mistake):
    name = row[0]
    place = min(place, len(name) - 2)
    a, b = name[place], name[place + 1]
    changed = {"swap": b + a, "drop": a, "double": a + a + b}[mistake]
    typed = name[:place] + changed + name[place + 2 :]
    assert name in [found for _, found in index.search(typed)]


def naive_distance(wanted, name):
    """By recursion over every part of the name."""
    from functools import cache

    @cache
    def least(i, j, start):
        if i == 0:
            return 0 if j == start else j - start
        if j == start:
            return i
        best = min(
            least(i - 1, j, start) + 1, least(i, j - 1, start) + 1,
            least(i - 1, j - 1, start) + (wanted[i - 1] != name[j - 1]),
        )  # fmt: skip
        if (
            i > 1
            and j - start > 1
            and wanted[i - 1] == name[j - 2]
            and wanted[i - 2] == name[j - 1]
        ):
            best = min(best, least(i - 2, j - 2, start) + 1)
        return best

    ends = range(len(name) + 1)
    return min(least(len(wanted), end, start) for end in ends for start in range(end + 1))


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", max_size=6))
def test_the_distance_to_a_part_is_the_least_over_all_parts(wanted, name):
    from lineage.store.name_index import _distance_within

    assert _distance_within(wanted, name) == naive_distance(wanted, name)


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_a_broken_index_is_one_clear_sentence(tmp_path, content):
    path = tmp_path / "names.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SchemaError, match="herdbook publish"):
        NameIndex(path)
