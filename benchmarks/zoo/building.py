"""Make the models of a plan, and write down what they are. A killed build goes on where it was."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.zoo.plan import Node
from data.build_pocket.hub import hub_entries
from data.build_pocket.members import Member
from data.build_pocket.publication import truth_entry
from data.build_pocket.recipes import Recipe, ancestry_of
from data.build_pocket.scheduling import make_all
from data.build_pocket.text import write_corpus

if TYPE_CHECKING:
    from data.build_pocket.makers import Made

__all__ = ["AnotherPlanError", "build"]

_WORK = ".work"
_WITHHELD = "withheld"
_OPENED = date(2024, 1, 2)
_FOUNDING_DAYS = 400


class AnotherPlanError(Exception):
    """The folder holds the models of another plan."""


def build(nodes: Sequence[Node], out: Path, jobs: int) -> dict[str, Made]:
    """Make every node below `out`, then ``hub.json`` and ``truth.json``.

    What an earlier run of the same plan finished is kept; what it left half done is made anew.

    Raises
    ------
    AnotherPlanError
        If `out` holds the models of another plan.
    """
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    _require_same_plan(nodes, work)
    if not (work / "corpus.npz").exists():
        write_corpus(work)
    before = _finished(work)
    for node in nodes:
        if node.withheld:
            _move(work / _WITHHELD / node.id, out / node.id)
        if node.id not in before:
            shutil.rmtree(out / node.id, ignore_errors=True)

    def record(made: Made) -> None:
        with (work / "made.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(made)) + "\n")

    recipes = {node.id: node.recipe for node in nodes}
    made = make_all(recipes, out, work, jobs, before, record)
    _publish(nodes, made, out)
    for node in nodes:  # a Hub shows every folder
        if node.withheld:
            _move(out / node.id, work / _WITHHELD / node.id)
    return made


def _move(here: Path, there: Path) -> None:
    if here.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        here.rename(there)


def _require_same_plan(nodes: Sequence[Node], work: Path) -> None:
    text = "\n".join(map(repr, nodes)) + "\n"
    file = work / "plan.txt"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise AnotherPlanError(
            f"{work.parent} holds the models of another plan: choose another folder"
        )
    file.write_text(text, encoding="utf-8")


def _finished(work: Path) -> dict[str, Made]:
    from data.build_pocket.makers import Made

    file = work / "made.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    made = {}
    for line in lines:
        try:
            one = Made(**json.loads(line))
        except ValueError:  # the last line of a run that was killed while it wrote
            continue
        made[one.id] = one
    return made


def _publish(nodes: Sequence[Node], made: Mapping[str, Made], out: Path) -> None:
    members = [Member(node.id, node.recipe, born=_born(node)) for node in nodes]
    hub = hub_entries(members, out)
    published = [node for node in nodes if not node.withheld]
    _write(out / "hub.json", {"models": {node.id: hub[node.id] for node in published}})
    parents = _findable_parents(nodes)
    truth = {}
    for node in nodes:
        entry = truth_entry(Member(node.id, node.recipe), made[node.id], hub)
        true_parents = entry["parents"]
        entry["parents"] = parents[node.id]
        if entry["parents"] != true_parents:
            entry["true_parents"] = true_parents
            if "layer_map" in entry:  # nobody moved layers between the two
                (parent,) = parents[node.id]
                entry["layer_map"] = [[parent["id"], layer] for _, layer in entry["layer_map"]]
        truth[node.id] = entry | {
            "family": node.family,
            "configuration": node.configuration,
            "split": node.split,
            "texts": _texts(node.recipe),
            "losses": {name: round(loss, 4) for name, loss in made[node.id].losses.items()},
        }
    withheld = {node.id for node in nodes if node.withheld}
    _write(
        out / "truth.json",
        {
            "models": {name: entry for name, entry in truth.items() if name not in withheld},
            "unpublished": {name: truth[name] for name in sorted(withheld)},
        },
    )


def _born(node: Node) -> str | None:
    """An invented day for a founder; the others' follow from their parents'."""
    if ancestry_of(node.recipe).inputs:
        return None
    return (_OPENED + timedelta(days=zlib.crc32(node.id.encode()) % _FOUNDING_DAYS)).isoformat()


def _findable_parents(nodes: Sequence[Node]) -> dict[str, list[dict[str, object]]]:
    """Parents that can be found: of a merge, those published; else the nearest published one."""
    withheld = {node.id: node for node in nodes if node.withheld}
    found = {}
    for node in nodes:
        parents = ancestry_of(node.recipe).parents
        if len(parents) > 1:
            parents = tuple((name, share) for name, share in parents if name not in withheld)
        while len(parents) == 1 and parents[0][0] in withheld:
            parents = ancestry_of(withheld[parents[0][0]].recipe).parents
        found[node.id] = [{"id": name, "weight": round(share, 6)} for name, share in parents]
    return found


def _texts(recipe: Recipe) -> list[str]:
    """What a model was trained on."""
    trained = getattr(recipe, "train", None) or getattr(recipe, "adapter", None) or recipe
    return sorted(getattr(trained, "mixture", {}))


def _write(path: Path, value: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
