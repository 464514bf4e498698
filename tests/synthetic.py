"""A small published register made by hand: every verdict, shape and awkward name once."""

# ruff: noqa: E501

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from lineage.store.home import Home
from lineage.store.schema import PUBLISHED, SCHEMA_VERSION

START = datetime(2024, 1, 10, 12, tzinfo=UTC)
HOSTILE = "evil/<img src=x onerror=alert(1)>"
RECIPE = "merge_method: slerp\nmodels:\n  - model: acme/base-a-7b\n  - model: zen/chat\n"

# repo_id, kind, day, parents as (id, weight, verdict, grade, relation), status
MODELS: tuple[tuple[str, str | None, int, tuple[tuple, ...], str], ...] = (
    ("acme/base-a-7b", "founder", 0, (), "ok"),
    ("zen/chat", "finetune", 60, (("acme/base-a-7b", 1, "confirmed", "inferred", "finetune"),), "ok"),
    ("zen/chat-v2", "finetune", 120, (("zen/chat", 1, "undeclared", "inferred", "finetune"),), "ok"),
    ("zen/chat-v2-GGUF", "quantized", 140,
     (("zen/chat-v2", 1, "confirmed", "proved", "quantized"),), "ok"),
    ("lora/style-adapter", "adapter", 150,
     (("zen/chat", 1, "confirmed", "inferred", "adapter"),), "ok"),
    ("blend/slerp-a-b", "merge", 200,
     (("zen/chat", 0.62, "confirmed", "proved", "merge"),
      ("other/base-b-tuned", 0.38, "undeclared", "proved", "merge")), "ok"),
    ("blend/slerp-a-b-dpo", "finetune", 240,
     (("blend/slerp-a-b", 1, "undeclared", "inferred", "finetune"),), "ok"),
    ("stack/franken-9b", "passthrough", 260,
     (("zen/chat-v2", 0.5, "confirmed", "proved", "merge"),
      ("zen/chat", 0.5, "confirmed", "proved", "merge")), "ok"),
    ("liar/claims-base-b", "finetune", 170,
     (("acme/base-a-7b", 1, "undeclared", "inferred", "finetune"),
      ("other/base-b", None, "contradicted", "declared", "finetune")), "ok"),
    ("shy/gated-tune", None, 180,
     (("acme/base-a-7b", None, "unverified", "declared", "finetune"),), "gated"),
    ("lost/child-of-ghost", None, 190,
     (("vanished/old-model", None, "unverified", "declared", "finetune"),), "ok"),
    ("copy/either-one", "duplicate", 210,
     (("zen/chat-v2", 1, "undeclared", "tie", "finetune"),), "ok"),
    ("other/base-b", "founder", 20, (), "ok"),
    ("other/base-b-tuned", "finetune", 90,
     (("other/base-b", 1, "confirmed", "inferred", "finetune"),), "ok"),
    ("gone/away", None, 100, (("other/base-b", None, "unverified", "declared", "finetune"),), "gone"),
    ("lonely/unrelated", "founder", 30, (), "ok"),
    (HOSTILE, "finetune", 230,
     (("zen/chat", 1, "undeclared", "inferred", "finetune"),), "disabled"),
)  # fmt: skip


def _insert(connection: duckdb.DuckDBPyConnection, table: str, **values: object) -> None:
    columns = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(values.values()))


def _preorder() -> tuple[dict[str, int], dict[str, int]]:
    children: dict[str, list[str]] = {}
    roots = []
    known = {row[0] for row in MODELS}
    for name, _, _, parents, _ in MODELS:
        if parents and parents[0][0] in known:
            children.setdefault(parents[0][0], []).append(name)
        else:
            roots.append(name)
    pos: dict[str, int] = {}
    size: dict[str, int] = {}

    def visit(name: str) -> int:
        pos[name] = len(pos)
        size[name] = 1 + sum(visit(child) for child in children.get(name, []))
        return size[name]

    for root in roots:
        visit(root)
    return pos, size


def _above(name: str, seen: set[str]) -> set[str]:
    parents = {row[0]: [p[0] for p in row[3]] for row in MODELS}
    for parent in parents.get(name, []):
        if parent not in seen:
            seen.add(parent)
            _above(parent, seen)
    return seen


def make_publication(root: Path, *, schema_version: int = SCHEMA_VERSION) -> Home:
    """Write a publication of MODELS below `root`."""
    home = Home(root)
    home.prepare()
    path = home.published / "register-1.duckdb"
    path.unlink(missing_ok=True)
    connection = duckdb.connect(str(path))
    for table in PUBLISHED:
        connection.execute(table.ddl())
    _fill(connection)
    connection.close()
    manifest = {
        "schema_version": schema_version,
        "data_date": "2024-12-01T00:00:00Z",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "file": path.name,
        "herdbook_version": "0.1.0",
    }
    (home.published / "manifest.json").write_text(json.dumps(manifest))
    return home


def _fill(connection: duckdb.DuckDBPyConnection) -> None:
    for key, value in {"endpoint": "https://huggingface.co", "ignore_claims": "false"}.items():
        _insert(connection, "meta", key=key, value=value)
    pos, size = _preorder()
    known = {row[0] for row in MODELS}
    above = {row[0]: _above(row[0], set()) for row in MODELS}
    primary = {row[0]: row[3][0][0] for row in MODELS if row[3]}
    for number, (name, kind, day, parents, status) in enumerate(MODELS):
        when = START + timedelta(days=day)
        founder, generation = name, 0
        while founder in primary and primary[founder] in known:
            founder, generation = primary[founder], generation + 1
        grade = parents[0][3] if parents and kind else ("inferred" if kind else None)
        note = f"The weights show a {kind} of {parents[0][0]}." if kind and parents else None
        _insert(
            connection, "model", repo_id=name, revision=f"{number:040x}", observed_at=when,
            status=status, author=name.split("/")[0], created_at=when, last_modified=when,
            downloads_30d=10_000 // (number + 1), likes=50 - number, licence="apache-2.0",
            library="transformers", pipeline_tag="text-generation", tags=["x"],
            architecture="LlamaForCausalLM", parameters=7_241_732_096, dtype="BF16",
            size_bytes=14_483_464_192, n_files=5, kind=kind, grade=grade, note=note,
            primary_parent=primary.get(name), founder=founder, generation=generation,
            n_parents=len(parents),
            n_children=sum(any(p[0] == name for p in row[3]) for row in MODELS),
            n_descendants=sum(name in seen for seen in above.values()), pos=pos[name],
            size=size[name], n_claims=1, n_problems=int(status != "ok"),
        )  # fmt: skip
        evidence = json.dumps(
            [{"name": "relative_change", "value": 0.0123,
              "text": "The weights differ from the parent's by 1.2 % in norm."},
             {"name": "arrow", "value": None, "text": "No sampled word differs."}]
        )  # fmt: skip
        for position, (parent, weight, verdict, edge_grade, relation) in enumerate(parents):
            _insert(
                connection, "edge", child=name, parent=parent, position=position,
                child_pos=pos[name], parent_pos=pos.get(parent),
                relation=relation, kind=kind if verdict != "contradicted" else None,
                weight=weight, verdict=verdict, grade=edge_grade,
                p_value=1e-12 if edge_grade == "inferred" else None, probability=None,
                evidence=evidence if kind else "[]",
            )  # fmt: skip
            if verdict != "undeclared":
                _insert(
                    connection, "claim", child=name, parent=parent, parent_text=parent,
                    relation=relation, source="card",
                    text=f"base_model: {parent} <script>alert('card')</script>",
                    revision=f"{number:040x}", first_seen=when, last_seen=when,
                )  # fmt: skip
        if kind:
            is_merge = len(parents) > 1 and kind in {"merge", "passthrough"}
            _insert(
                connection, "finding", finding_id=number, run_id=1, child=name, kind=kind,
                grade=grade, method="slerp" if kind == "merge" else None,
                ties=["zen/chat-v2", "zen/chat-v2-GGUF"] if grade == "tie" else [],
                p_value=1e-12 if parents else None, evidence=evidence,
                recipe_yaml=RECIPE if is_merge else None,
                note=note or "No parent is in the register.", valid_from=when,
            )  # fmt: skip
            found = [p for p in parents if p[2] != "contradicted"]
            for position, (parent, weight, *_) in enumerate(found):
                _insert(
                    connection, "finding_parent", finding_id=number, position=position,
                    parent=parent, weight=weight, low=weight - 0.02, high=weight + 0.02,
                )  # fmt: skip
            if kind == "passthrough":
                for layer in range(12):
                    _insert(
                        connection, "finding_layer", finding_id=number, child_layer=layer,
                        parent=parents[layer * len(parents) // 12][0], parent_layer=layer % 8,
                    )  # fmt: skip
            _insert(
                connection, "large_file", pos=pos[name], size_bytes=14_483_464_192,
                path="model.safetensors" if number else "<b>/../model.safetensors",
                sha256=f"{number:064x}",
            )  # fmt: skip
            _insert(
                connection, "fingerprint", repo_id=name, revision=f"{number:040x}", scheme="s1",
                digest="d" * 64, format="safetensors", bytes_read=4_200_000, requests=31,
                weight_bytes=14_483_464_192, n_tensors=291, seconds=2.5, made_at=when,
            )  # fmt: skip
        else:
            _insert(
                connection, "problem", repo_id=name, revision=None, stage="crawl", path=None,
                code=status if status != "ok" else "pickle", reason="not read: pickle",
                observed_at=when,
            )  # fmt: skip
        for domain in ("python", "law", "poetry"):
            _insert(
                connection, "trait", repo_id=name, name=f"loss/{domain}", value=2.0 + number / 50,
                metric="cross_entropy", dataset=domain, higher_is_better=False, source="card",
                revision=f"{number:040x}", observed_at=when,
            )  # fmt: skip
    for place, domain in enumerate(("python", "law", "poetry")):
        for statistic, fitness, value, half in (
            ("heritability", None, 0.82 - place / 10, 0.25 + place / 4),
            ("selection_differential", "descendants", -0.05 + place / 20, 0.06),
        ):
            _insert(
                connection, "estimate", run_id=1, statistic=statistic, trait=f"loss/{domain}",
                fitness=fitness, population="all", value=value, low=value - half,
                high=value + half, level=0.95, n=12, n_clusters=3, p_value=0.03,
                method="weighted mid-parent regression, errors clustered by founder",
            )  # fmt: skip
    _insert(
        connection, "estimate", run_id=1, statistic="opportunity", trait=None,
        fitness="descendants", population="all", value=None, low=None, high=None, level=0.95,
        n=2, n_clusters=None, p_value=None, method="Too few models with offspring.",
    )  # fmt: skip
