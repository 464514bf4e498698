"""What the database makes of claims alone is what `reconcile` makes of them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from crawler.records import ClaimSource
from lineage.infer.reconcile import reconcile
from lineage.model import Grade, Kind, PairTest, PairVerdict
from lineage.pipeline.publish import publish
from lineage.store.findings import current_findings, replace_findings, replace_pairs
from lineage.store.home import Home
from lineage.store.plain_claims import mark_plain_children
from lineage.store.publish import open_published
from lineage.store.reads import creation_dates, edges, unrelated_pairs
from lineage.store.snapshots import standing_claims
from registers import COMMIT, START, add_model, add_run, found

SOURCES = [str(source) for source in ClaimSource]
TEXTS = [
    "base_model: x", "base_model x", "  two\n words ", "nb\u00a0sp\u2028line\x1cend", "é" * 300,
    '"quoted" \\ <b>',
]  # fmt: skip


def say(connection, child, parent, text="base_model: x", **more):
    row = {
        "child": child, "parent": parent, "parent_text": parent or "?", "relation": "finetune",
        "source": "card", "text": text, "revision": COMMIT, "first_seen": START, **more,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO claim ({', '.join(row)}) VALUES ({', '.join('?' for _ in row)})",
        list(row.values()),
    )


def random_register(root, seed):
    """Claims of every source among twenty models, a few findings, pairs, renamed and lost names."""
    rng = np.random.default_rng(seed)
    home = Home(root)
    names = [f"o{i % 4}/M{i}" for i in range(20)]
    with home.open_working() as connection:
        for day, name in enumerate(names):
            add_model(connection, name, day=int(rng.integers(0, 20)) if rng.random() < 0.8 else day)
        known = [name for name in names if rng.random() < 0.25]
        findings = []
        for name in known:
            above = [one for one in known if one < name and rng.random() < 0.3][:2]
            kind = Kind.MERGE if len(above) == 2 else Kind.FINETUNE
            findings.append(found(name, *above, kind=kind, grade=Grade.INFERRED))
        replace_findings(connection, 1, findings)
        pairs = sorted({tuple(sorted(rng.choice(names, 2, replace=False))) for _ in range(3)})
        replace_pairs(
            connection, 1, [PairTest(a, b, PairVerdict.UNRELATED, 0.0, 0.9, 0.0) for a, b in pairs]
        )
        for _ in range(int(rng.integers(5, 40))):
            child, parent = rng.choice(names, 2)
            if rng.random() < 0.7:
                child, parent = max(child, parent), min(child, parent)
            parent = rng.choice([parent, parent.lower(), "old/name", "far/away", None],
                                p=[0.75, 0.1, 0.05, 0.05, 0.05])  # fmt: skip
            weight = None if rng.random() < 0.7 else float(rng.random())
            say(
                connection, str(child), parent and str(parent), text=str(rng.choice(TEXTS)),
                source=str(rng.choice(SOURCES)), weight=weight,
                relation=rng.choice([None, "merge", "quantized"]),
                ended_at=START + timedelta(days=1) if rng.random() < 0.1 else None,
            )  # fmt: skip
        connection.execute("INSERT INTO alias VALUES ('old/name', ?, ?)", [names[3], START])
        add_run(connection, "crawl", endpoint="http://127.0.0.1:1")
    return home


@pytest.mark.parametrize("seed", range(25))
def test_the_database_and_reconcile_make_the_same_edges(tmp_path, seed):
    home = random_register(tmp_path, seed)
    with home.open_working() as connection:
        expected = reconcile(
            standing_claims(connection), current_findings(connection),
            unrelated_pairs(connection), creation_dates(connection),
        )  # fmt: skip
    report = publish(home, accept_losses=True)
    with open_published(home) as connection:
        assert edges(connection) == expected
    assert report.n_edges == len(expected) == sum(n for _, n in report.by_verdict)


def plain(home):
    with home.open_working() as connection:
        mark_plain_children(connection)
        return {name for (name,) in connection.execute("FROM plain_child").fetchall()}


def test_a_child_is_plain_unless_a_finding_a_circle_or_a_test_touches_it(tmp_path):
    home = Home(tmp_path)
    with home.open_working() as connection:
        for name in "abcdefghi":
            add_model(connection, f"m/{name}")
        for child, parent in ("ba", "cb", "dc", "ef", "fe", "ge", "hg", "ih"):
            say(connection, f"m/{child}", f"m/{parent}")
        replace_findings(connection, 1, [found("m/c", "m/b")])
        add_run(connection, "crawl", endpoint="http://127.0.0.1:1")
    # b stands above c, of which something was found; e and f are a circle, d and g hang on both.
    assert plain(home) == {"m/d", "m/g", "m/h", "m/i"}
    with home.open_working() as connection:
        replace_pairs(connection, 1, [PairTest("m/h", "m/z", PairVerdict.UNRELATED, 0.0, 0.9, 0.0)])
    assert plain(home) == {"m/d", "m/i"}


def test_a_register_without_claims_has_no_plain_child(tmp_path):
    home = Home(tmp_path)
    with home.open_working() as connection:
        add_model(connection, "m/a")
        add_run(connection, "crawl", endpoint="http://127.0.0.1:1")
    assert plain(home) == set()
    assert publish(home).n_edges == 0
