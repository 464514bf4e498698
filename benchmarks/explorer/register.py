"""A working database of simulated models, as many as the Hub has, to measure the explorer on.

Births, parents and kinds come from :mod:`lineage.evolution.chance.simulate`: preferential
attachment that ages, merges of two to eight. Names, licences, tasks and counts are drawn; every
edge is somebody's claim, for nobody read these weights.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.evolution.chance.attachment import Attachment
from lineage.evolution.chance.rules import (
    FINETUNE,
    FOUNDER,
    MERGE,
    QUANTISED,
    HubRules,
)
from lineage.evolution.chance.simulate import SimulatedHub, simulate_hub
from lineage.store.home import Home

__all__ = ["LAST_DAY", "fill_home", "names_of"]

Ints = NDArray[np.int64]

LAST_DAY = datetime(2026, 9, 1, tzinfo=UTC)
_SPAN_DAYS = 1600.0
_FIRST = (
    "amber", "birch", "cedar", "delta", "ember", "frost", "grove", "heron", "iris", "juniper",
    "kestrel", "lark", "maple", "north", "opal", "pine", "quartz", "raven", "sable", "tundra",
    "umber", "vesper", "willow", "xenon", "yarrow", "zephyr",
)  # fmt: skip
_SECOND = (
    "chat", "code", "coder", "instruct", "base", "vision", "math", "story", "reason", "roleplay",
    "summary", "medical", "legal", "sql", "tutor", "guard", "embed", "rerank", "speech", "draft",
    "agent", "planner", "judge", "writer", "mini", "nano",
)  # fmt: skip
_SIZES = ("0.5B", "1B", "1.7B", "3B", "4B", "7B", "8B", "12B", "14B", "32B", "70B")
_ENDINGS = {
    FOUNDER: "base",
    FINETUNE: "sft",
    QUANTISED: "GGUF",
    MERGE: "merge",
}
_RELATIONS = {FINETUNE: "finetune", QUANTISED: "quantized", MERGE: "merge"}
_LICENCES = ("apache-2.0", "mit", "llama3", "gemma", "cc-by-nc-4.0", "openrail", "other")
_LICENCE_SHARES = (0.46, 0.14, 0.1, 0.05, 0.07, 0.05, 0.13)
_TASKS = ("text-generation", "text-to-image", "text-classification", "feature-extraction")
_TASK_SHARES = (0.7, 0.14, 0.1, 0.06)
_LICENCE_KEPT, _TASK_KEPT = 0.89, 0.96


def _rules(n_models: int) -> HubRules:
    return HubRules(
        n_models,
        _SPAN_DAYS,
        growth_per_day=0.0025,
        founder_share=0.12,
        quantised_share=0.25,
        merge_share=0.16,
        extra_parents=1.6,
        attachment=Attachment(1.0, 160.0, 0.02),
        author_loyalty=0.3,
    )


def names_of(hub: SimulatedHub) -> list[str]:
    """An id for every model: owner from its author, then words, size, ending and its number."""
    index = np.arange(len(hub))
    mixed = (index * 2_654_435_761) % (2**32)
    first = np.array(_FIRST)[mixed % len(_FIRST)]
    second = np.array(_SECOND)[(mixed >> 8) % len(_SECOND)]
    size = np.array(_SIZES)[(mixed >> 16) % len(_SIZES)]
    ending = np.array([_ENDINGS[kind] for kind in sorted(_ENDINGS)])[hub.kind]
    return [
        f"{_FIRST[author % len(_FIRST)]}-{author}/{a}-{b}-{c}-{e}-{i}"
        for author, a, b, c, e, i in zip(
            hub.author.tolist(), first.tolist(), second.tolist(), size.tolist(), ending.tolist(),
            index.tolist(), strict=True,
        )
    ]  # fmt: skip


def _handed_down(
    hub: SimulatedHub, n: int, shares: tuple[float, ...], kept: float, rng: np.random.Generator
) -> Ints:
    """A category that founders draw and children keep, or draw anew."""
    drawn = rng.choice(n, len(hub), p=shares)
    fresh = rng.random(len(hub)) >= kept
    start, first = hub.parent_start[:-1], hub.parent_start[1:] > hub.parent_start[:-1]
    parent = np.where(first, hub.parent_index[np.minimum(start, hub.parent_index.size - 1)], -1)
    source = np.where(fresh | (parent < 0), np.arange(len(hub)), parent)
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return drawn[source]
        source = further


def fill_home(home: Home, n_models: int, seed: int = 1) -> int:
    """Write the working database of `n_models` models; returns the number of edges."""
    rng = np.random.default_rng(seed)
    hub = simulate_hub(_rules(n_models), rng)
    names = names_of(hub)
    ids = pa.array(names)
    n_children = np.bincount(hub.parent_index, minlength=len(hub))
    first_day = LAST_DAY - timedelta(days=_SPAN_DAYS)
    base_us = int(first_day.timestamp() * 1e6)
    created = pa.array(
        (base_us + hub.born_day * 86_400e6).astype(np.int64), pa.timestamp("us", tz="UTC")
    )
    licence = pa.array(_LICENCES).take(
        pa.array(_handed_down(hub, len(_LICENCES), _LICENCE_SHARES, _LICENCE_KEPT, rng))
    )
    task = pa.array(_TASKS).take(
        pa.array(_handed_down(hub, len(_TASKS), _TASK_SHARES, _TASK_KEPT, rng))
    )
    downloads = np.floor(np.exp(rng.normal(2.0, 2.0, len(hub))) * (1 + n_children)).astype(np.int64)
    models = pa.table(
        {
            "repo_id": ids,
            "created_at": created,
            "licence": licence,
            "pipeline_tag": task,
            "parameters": np.exp(rng.normal(21.5, 1.2, len(hub))).astype(np.int64),
            "downloads_30d": downloads,
            "likes": downloads // 300,
        }
    )
    child = np.repeat(np.arange(len(hub)), np.diff(hub.parent_start))
    kinds = sorted(_RELATIONS)
    relations = pa.array([_RELATIONS.get(kind) for kind in range(max(kinds) + 1)])
    claims = pa.table(
        {
            "child": ids.take(pa.array(child)),
            "parent": ids.take(pa.array(hub.parent_index)),
            "relation": relations.take(pa.array(hub.kind[child])),
            "seen": created.take(pa.array(child)),
        }
    )
    home.prepare()
    connection = home.open_working()
    try:
        connection.register("models", models)
        connection.register("claims", claims)
        now = LAST_DAY
        connection.execute(
            "INSERT INTO run VALUES (1, 'crawl', $now, $now, 'simulated', $parameters, '{}', '{}')",
            {"now": now, "parameters": json.dumps({"endpoint": "simulated", "seed": seed})},
        )
        connection.execute(
            "INSERT INTO snapshot BY NAME SELECT repo_id, md5(repo_id) || '00000000' AS revision, "
            "$now AS observed_at, 'ok' AS status, split_part(repo_id, '/', 1) AS author, "
            "created_at, created_at AS last_modified, licence, pipeline_tag, "
            "'transformers' AS library, parameters FROM models",
            {"now": now},
        )
        connection.execute(
            "INSERT INTO repository BY NAME SELECT repo_id, $now AS first_seen, $now AS listed_at,"
            " created_at, 'ok' AS status FROM models",
            {"now": now},
        )
        for days in (30, 0):
            connection.execute(
                "INSERT INTO observation BY NAME SELECT repo_id, $at AS observed_at, "
                "downloads_30d, likes, 'hub' AS source FROM models WHERE created_at <= $at",
                {"at": now - timedelta(days=days)},
            )
        connection.execute(
            "INSERT INTO claim BY NAME SELECT child, parent, parent AS parent_text, relation, "
            "'tag' AS source, 'base_model:' || relation || ':' || parent AS text, "
            "md5(child) || '00000000' AS revision, seen AS first_seen FROM claims"
        )
    finally:
        connection.close()
    return hub.parent_index.size
