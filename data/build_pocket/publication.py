"""Everything beside the weights: cards, hub.json, truth.json and the folder's own README."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .cards import card_text
from .hub import hub_entries
from .makers import Made
from .members import MEMBERS, Member
from .recipes import ancestry_of

__all__ = ["truth_entry", "write_publication"]

_RECIPES = ("mergekit_config.yml", "mergekit_moe_config.yml")


def write_publication(
    root: Path, made: Mapping[str, Made], characters: Mapping[str, int], seconds: float
) -> None:
    """Write cards first (they are part of a revision), then hub.json, truth.json and README.md."""
    for path in root.rglob("*.safetensors"):
        path.chmod(0o644)
    for member in MEMBERS:
        _write_card(root / member.id, member, made[member.id])
    hub = hub_entries(MEMBERS, root)
    _write_json(root / "hub.json", {"models": hub})
    truth = {member.id: truth_entry(member, made[member.id], hub) for member in MEMBERS}
    _write_json(root / "truth.json", {"models": truth})
    (root / "README.md").write_text(_readme(root, truth, characters, seconds), encoding="utf-8")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_card(folder: Path, member: Member, made: Made) -> None:
    recipe_text = None
    for name in _RECIPES:
        path = folder / name
        if path.exists():
            recipe_text = path.read_text(encoding="utf-8")
            if not member.card.keeps_recipe:
                path.unlink()
    text = card_text(member, made.losses, recipe_text)
    (folder / "README.md").write_text(text, encoding="utf-8", newline="")
    config_path = folder / "config.json"
    if config_path.exists():
        config = json.loads(config_path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        if member.card.config_name:
            config["_name_or_path"] = ancestry_of(member.recipe).parents[0][0]
        _write_json(config_path, config)


def truth_entry(
    member: Member, made: Made, hub: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    """What ``truth.json`` says of one model."""
    line = ancestry_of(member.recipe)
    entry: dict[str, object] = {
        "kind": line.kind,
        "parents": [{"id": name, "weight": round(share, 6)} for name, share in line.parents],
    }
    if line.method is not None:
        entry["method"] = line.method
    if line.base is not None:
        entry["base"] = line.base
    if line.layer_map is not None:
        entry["layer_map"] = [list(place) for place in line.layer_map]
    if line.rank is not None:
        entry["rank"] = line.rank
    entry.update(line.extra)
    if made.relative_change is not None:
        entry["relative_change"] = float(f"{made.relative_change:.4g}")
    if made.measured_shares is not None:
        entry["measured_shares"] = made.measured_shares
    if member.gated or member.disabled:
        entry["readable"] = False
    created = str(hub[member.id]["created_at"])
    if any(str(hub[name]["created_at"]) > created for name, _ in line.parents):
        entry["date_inverted"] = True
    return entry


def _readme(
    root: Path,
    truth: Mapping[str, Mapping[str, object]],
    characters: Mapping[str, int],
    seconds: float,
) -> str:
    files = [path for path in root.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    kinds = Counter(str(entry["kind"]) for entry in truth.values())
    table = "\n".join(
        f"| {kind} | {count} | "
        + ", ".join(f"`{name}`" for name, entry in truth.items() if entry["kind"] == kind)
        + " |"
        for kind, count in sorted(kinds.items())
    )
    text = "\n".join(f"| {name} | {count:,} |" for name, count in characters.items())
    return f"""# The pocket Hub

{len(truth)} small language models with a known ancestry, {size:.1f} MB in {len(files)} files, laid
out as `owner/name/files`. The weights were trained by this project from random numbers and are
published under Apache-2.0, like the rest of the project. The licences that the cards state belong
to the imitation, as the owners' names do.

## What is real and what is invented

Real: the weights, all trained by gradient descent on text; the merges, made by mergekit; the
adapters, made by peft; the GGUF files, written by the package `gguf`; the losses in the cards,
measured on held-out text (nats per token, the same windows for every model).

Invented: the owners, the names, the dates (they follow ancestry, but for two re-uploads that are
older than their source), the downloads, the likes, the gating, and what the cards say or fail to
say about parents. Whoever measures selection on downloads or likes here measures an invention.

## Files

- `truth.json`: for every model its kind, parents with shares, and where they apply the method,
  base, rank and layer map. Further keys: `relative_change` (‖δ‖/‖W‖ against the parent, shared
  tensors), `t` (SLERP), `same_init_as`, `adapter`, `date_inverted`, and `readable: false` for the
  gated and the disabled repository, whose weights a stranger cannot read.
- `hub.json`: dates, downloads, likes, revision and flags for the Hub server. The repository with
  `"vanishes": true` is there for a first crawl and gone at the next.

Weight of a parent: the normalised share that the recipe gives it; for SLERP with gradients the
mean over the layers' parameters; for a passthrough its share of the layers; for a mixture of
experts its share of the experts. A model stock chooses its own shares: the recipe's equal ones
stand as weights, and `measured_shares` gives the least-squares shares of the parents' changes.

## Text

Nothing was downloaded, and none of the text is kept here. It comes with Python and the pinned
packages: the standard library's source, the reference manual inside `pydoc_data`, C++ headers of
torch, docstrings of networkx, numpy and scipy, licence texts of the installed packages, and
streamlit's style sheets and scripts. One document in eight is held out.

| domain | characters to train on |
|---|---|
{text}

## Rebuild

`python -m data.build_pocket` (or `make pocket`) builds everything anew from fixed seeds; it took
about {seconds / 60:.0f} minutes on two idle cores. Another machine or another set of packages gives
other bits (the text and the order of floating-point sums differ), the same ancestry and about the
same losses. The inference was developed on a build of other seeds (`--seed 0`); this one, which it
is judged on, was made afterwards.

## Models by kind

| kind | n | models |
|---|---|---|
{table}
"""
