"""The doubts that the database finds are those of the definition, whatever it picks first."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawler.contradictions import doubts_of_claims, doubts_of_cycles, repo_facts
from crawler.listed import parse_record
from lineage.store.doubts import find_doubts, replace_doubts
from lineage.store.home import Home
from lineage.store.listed import write_listed

NAMES = ["a/x", "A/X", "a/y", "b/z", "b/w-GGUF"]
TAGS = ["gguf", "safetensors", "gptq", "4-bit", "mlx", "lora"]
LIBRARIES = [None, "transformers", "gguf", "mlx"]
DAYS = st.integers(0, 3)


@st.composite
def records(draw):
    found = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique_by=str.lower)):
        tags = draw(
            st.lists(st.sampled_from(["gguf", "safetensors", "gptq", "4-bit", "mlx", "lora"]))
        )
        for parent in draw(st.lists(st.sampled_from(NAMES), max_size=2)):
            relation = draw(st.sampled_from(["", "quantized:", "finetune:", "merge:", "adapter:"]))
            tags.append(f"base_model:{relation}{parent}")
        dtype = draw(st.sampled_from([None, "BF16", "I32", "F8_E4M3"]))
        record = {"id": name, "sha": "1" * 40, "tags": tags,
                  "createdAt": f"2024-01-0{draw(DAYS) + 1}T00:00:00Z",
                  "library_name": draw(st.sampled_from(LIBRARIES))}  # fmt: skip
        if dtype:
            record["safetensors"] = {"parameters": {dtype: 9}, "total": 9}
        found.append(record)
    return found


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    connection = Home(tmp_path_factory.mktemp("home")).open_working()
    yield connection
    connection.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records())
def test_the_database_doubts_what_the_definition_doubts(book, found):
    for table in ("repository", "snapshot", "claim", "doubt", "observation"):
        book.execute(f"DELETE FROM {table}")
    now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    rows = [parse_record(record, now) for record in found]
    write_listed(book, [(row, now) for row in rows])
    facts = {
        row.repo_id.lower(): repo_facts(
            created_at=row.created_at, tags=row.tags, library=row.library, dtype=row.facts.dtype,
            quantisation=row.facts.quantisation,
        )
        for row in rows
    }  # fmt: skip
    claims = {(claim.child, claim.parent, claim.relation) for row in rows for claim in row.claims}
    expected = set(doubts_of_claims(claims, facts)) | set(
        doubts_of_cycles(sorted((child, parent) for child, parent, _ in claims))
    )
    assert set(find_doubts(book)) == expected


def test_doubts_replace_those_of_an_earlier_crawl(tmp_path: Path):
    connection = Home(tmp_path).open_working()
    now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    record = {"id": "a/x", "tags": ["base_model:a/x"]}
    write_listed(connection, [(parse_record(record, now), now)])
    assert replace_doubts(connection) == 1
    assert replace_doubts(connection) == 1
    assert connection.execute("SELECT child, code FROM doubt").fetchall() == [
        ("a/x", "self_parent")
    ]
    later = now + timedelta(days=1)
    write_listed(connection, [(parse_record({**record, "tags": []}, later), later)])
    assert replace_doubts(connection) == 0
    connection.close()
