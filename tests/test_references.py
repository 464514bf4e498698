"""What people write when they mean a repository: ids, addresses, paths, folders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.references import (
    Mention,
    mention_of,
    repo_ids_in,
    resolve_paths,
    resolve_repo_id,
)

CARD = ("mistralai/Mistral-7B-v0.1", "TheBloke/Llama-2-13B-fp16", "me/child")


def resolved(words: str, *candidates: str, child: str | None = None) -> str | None:
    (mention,) = resolve_paths([Mention(None, words, words)], candidates, child)
    assert (mention.words, mention.context) == (words, words)
    return mention.repo_id


@pytest.mark.parametrize(
    ("path", "repo_id"),
    [
        ("/home/me/.cache/huggingface/hub/models--mistralai--Mistral-7B-v0.1/snapshots/26bca36bde83"
         "33b5d7f72e9ed20ccda6a618af24", "mistralai/Mistral-7B-v0.1"),
        (r"C:\Users\me\.cache\huggingface\hub\models--mistralai--Mistral-7B-v0.1\snapshots\26bc",
         "mistralai/Mistral-7B-v0.1"),
        ("models--mistralai--Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("/cache/models--gpt2/snapshots/1", "openai-community/gpt2"),
        ("/cache/models--unknown/snapshots/1", None),
        ("/cache/models--a--b--c/snapshots/1", None),
        ("/cache/models----b/snapshots/1", None),
        ("/cache/models--a--../b", None),
        ("/cache/mymodels--a--b/x", None),
        ("/cache/datasets--a--b/x", None),
    ],
)  # fmt: skip
def test_a_folder_of_the_hub_clients_cache_names_its_repository(path, repo_id):
    assert resolve_repo_id(path) == repo_id


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Users\x\models\mistralai_Mistral-7B-v0.1", "/workspace/models/Mistral-7B-v0.1",
        "D:/AI/text-generation-webui/models/TheBloke_Llama-2-13B-fp16", "./foo", "../a/b",
        "~/models/a", "C:a", r"models\a", "//server/share/a", "/a", "output/checkpoint-500", "foo",
    ],
)  # fmt: skip
def test_a_path_alone_means_no_repository(path):
    assert resolve_repo_id(path) is None


@pytest.mark.parametrize(
    ("path", "repo_id"),
    [
        (r"C:\Users\x\models\mistralai_Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("/workspace/models/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("/workspace//models/mistral-7b-V0.1/", "mistralai/Mistral-7B-v0.1"),
        ("D:/AI/text-generation-webui/models/TheBloke_Llama-2-13B-fp16",
         "TheBloke/Llama-2-13B-fp16"),
        ("./Llama-2-13B-fp16@main", "TheBloke/Llama-2-13B-fp16"),
        ("'Llama-2-13B-fp16'", "TheBloke/Llama-2-13B-fp16"),
        ("/models/TheBloke/Llama-2-13B-fp16", "TheBloke/Llama-2-13B-fp16"),
        ("/models/Mistral-7B-v0.1/snapshot", None),
        ("/models/Mistral-7B-v0.1-GPTQ", None),
        ("/models/other_Mistral-7B-v0.1", None),
        ("/models/Mistral-7B", None),
        ("/models/child", None),  # the child is no parent
        ("///", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_path_is_resolved_where_one_candidate_is_called_so(path, repo_id):
    assert resolved(path, *CARD, child="Me/Child") == repo_id


def test_two_candidates_of_one_name_leave_a_path_unresolved():
    assert resolved("/models/One-7B", "a/One-7B", "b/one-7b") is None
    assert resolved("/models/a_One-7B", "a/One-7B", "b/a_One-7B") is None


def test_the_owner_in_the_path_decides_between_candidates_of_one_name():
    assert resolved("/models/b_One-7B", "a/One-7B", "b/One-7B") == "b/One-7B"
    assert resolved(r"D:\models\B\one-7b", "a/One-7B", "b/One-7B") == "b/One-7B"


def test_one_repository_written_in_two_ways_is_one_candidate():
    assert resolved("/models/one-7b", "a/One-7B", "A/one-7B") == "a/One-7B"


def test_a_folder_that_everybody_has_is_no_name():
    assert resolved("/home/x/merged", "a/merged") is None


def test_bare_candidates_resolve_nothing():
    assert resolved("/models/gpt2", "gpt2") is None


def test_what_is_resolved_stays():
    mention = mention_of("a/One-7B", "me/child")
    assert mention is not None
    assert resolve_paths([mention], ["b/One-7B"]) == (mention,)


def test_ids_stand_in_links_lists_and_prose():
    text = """---
base_model:
- mistralai/Mistral-7B-v0.1
datasets: [x/data]
---
See [b](https://huggingface.co/B/two/tree/main?x=1#y), `c/three-1.0`, **d/four**.
Also hf.co/e/five. Not https://example.org/f/six, /home/g/seven, ./h/eight, i/j/k,
https://huggingface.co/datasets/l/nine, models/ten, C:\\m\\n or o//p; MISTRALAI/mistral-7b-v0.1.
"""
    assert repo_ids_in(text) == (
        "mistralai/Mistral-7B-v0.1", "x/data", "B/two", "c/three-1.0", "d/four", "e/five",
    )  # fmt: skip


@given(st.text(alphabet="a/\\_-.:@ B", max_size=40), st.lists(st.text(max_size=10), max_size=4))
def test_no_words_make_the_resolution_fail(words, candidates):
    for repo_id in repo_ids_in(words):
        assert resolve_repo_id(repo_id) == repo_id
    found = resolved(words, *candidates, *repo_ids_in(words))
    assert found is None or found in (*candidates, *repo_ids_in(words))


PARTS = st.sampled_from(["a", "b", "A", "a_b", "c"])


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(st.tuples(PARTS, PARTS), max_size=5))
def test_resolution_equals_the_comparison_of_every_pair(parts, pairs):
    candidates = [f"{owner}/{name}" for owner, name in pairs]

    def fitting(*forms: str) -> list[str]:
        end = ["/".join(parts[-2:]).lower(), parts[-1].lower()]
        kept: list[str] = []
        for candidate in candidates:
            owner, name = candidate.lower().split("/")
            said = {"both": end[0] == candidate.lower(), "name": end[1] == name,
                    "joined": end[1] == f"{owner}_{name}"}  # fmt: skip
            known = {one.lower() for one in kept}
            if any(said[form] for form in forms) and candidate.lower() not in known:
                kept.append(candidate)
        return kept

    certain = fitting("both") or fitting("name", "joined")
    expected = certain[0] if len(certain) == 1 else None
    assert resolved("/x/" + "/".join(parts), *candidates) == expected


def test_ids_are_looked_for_in_as_much_text_as_a_card_has():
    assert repo_ids_in("a/b " + "x " * 600_000 + "c/d") == ("a/b",)
