"""Whether the proving ground is like the field: sizes of changes, losses, parallel siblings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from safetensors.torch import load_file

from benchmarks.zoo.labels import Label, read_labels
from lineage.infer.truth import Truth, read_truth
from lineage.model import Kind

__all__ = ["describe", "in_words"]

_WEIGHTS = "model.safetensors"


def describe(folder: Path) -> dict[str, Any]:
    """Counts, changes, losses and cosines of a proving ground, for JSON.

    Raises
    ------
    OSError
        If the folder holds no ``truth.json``.
    """
    text = (folder / "truth.json").read_text(encoding="utf-8")
    truth, labels = read_truth(text), read_labels(text)
    unpublished = json.loads(text)["unpublished"]
    return {
        "models": len(truth.models),
        "unpublished": len(unpublished),
        "by_split": dict(Counter(label.split for label in labels.values())),
        "by_configuration": dict(Counter(label.configuration for label in labels.values())),
        "by_kind": dict(Counter(str(model.kind) for model in truth.models.values())),
        "merge_methods": dict(
            Counter(str(m.method) for m in truth.models.values() if len(m.parents) > 1)
        ),
        "independent_pairs": _independent_pairs(truth, labels),
        "relative_change": _changes(truth, labels),
        "loss_on_own_text": _learned(truth, labels),
        "cosines": _cosines(folder, truth, labels),
    }


def _independent_pairs(truth: Truth, labels: Mapping[str, Label]) -> dict[str, int]:
    """Pairs of one configuration from different families, by configuration."""
    sizes = Counter((labels[n].configuration, labels[n].family) for n in truth.models)
    pairs: Counter[str] = Counter()
    for ((one, _), n), ((other, _), m) in combinations(sizes.items(), 2):
        pairs[one] += n * m if one == other else 0
    return dict(pairs)


def _changes(truth: Truth, labels: Mapping[str, Label]) -> dict[str, list[float]]:
    """``‖δ‖/‖W‖`` by kind: smallest, quartiles, largest."""
    found: dict[str, list[float]] = {}
    for name, model in truth.models.items():
        change = labels[name].relative_change
        if change is not None:
            found.setdefault(str(model.kind), []).append(change)
    return {
        kind: [float(f"{q:.2g}") for q in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))]
        for kind, values in sorted(found.items())
    }


def _learned(truth: Truth, labels: Mapping[str, Label]) -> dict[str, Any]:
    """Held-out loss on the text that a fine-tune was trained on: before minus after, in nats."""
    gains = []
    for name, model in truth.models.items():
        texts = labels[name].texts
        if model.kind is not Kind.FINETUNE or len(texts) != 1 or len(model.made_from) > 0:
            continue
        before = labels[model.parents[0][0]].losses
        after = labels[name].losses
        if texts[0] in before and texts[0] in after:
            gains.append(before[texts[0]] - after[texts[0]])
    return {
        "n": len(gains),
        "improved": sum(gain > 0 for gain in gains),
        "median_gain": round(median(gains), 4) if gains else None,
    }


def _cosines(
    folder: Path, truth: Truth, labels: Mapping[str, Label]
) -> dict[str, dict[str, float | int]]:
    """Cosines of siblings' changes, by whether they read the same text.

    ``convergent``: a change against that of the parent's sibling which read the same text.
    """
    found: dict[str, list[float]] = {"same text": [], "other text": [], "convergent": []}
    families: dict[str, list[str]] = {}
    for name, model in truth.models.items():
        if model.kind is Kind.FINETUNE and labels[name].disguise is None and not model.made_from:
            families.setdefault(labels[name].family, []).append(name)
    for members in families.values():
        changes = dict(_family_changes(folder, truth, members))
        for a, b in combinations(changes, 2):
            parent_a, parent_b = truth.models[a].parents[0][0], truth.models[b].parents[0][0]
            if changes[a].shape != changes[b].shape:
                continue
            same = labels[a].texts == labels[b].texts
            if parent_a == parent_b:
                group = "same text" if same else "other text"
            elif same and {parent_a, parent_b}.isdisjoint((a, b)):
                group = "convergent"
            else:
                continue
            found[group].append(float(_cosine(changes[a], changes[b])))
    return {
        group: {
            "n": len(values),
            "low": round(float(np.quantile(values, 0.1)), 3),
            "median": round(median(values), 3),
            "high": round(float(np.quantile(values, 0.9)), 3),
        }
        for group, values in found.items()
        if values
    }


def _family_changes(
    folder: Path, truth: Truth, members: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    for name in members:
        child = _state(folder / name)
        parent = _state(folder / truth.models[name].parents[0][0])
        if child.keys() == parent.keys():
            yield name, np.concatenate([(child[key] - parent[key]).ravel() for key in child])


def _state(folder: Path) -> dict[str, np.ndarray]:
    if not (folder / _WEIGHTS).exists():
        return {}
    state = load_file(str(folder / _WEIGHTS))
    return {name: value.float().numpy() for name, value in sorted(state.items())}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def in_words(facts: Mapping[str, Any]) -> str:
    """The same for people."""

    def counts(values: Mapping[str, int]) -> str:
        return ", ".join(f"{n} {name}" for name, n in sorted(values.items(), key=lambda i: -i[1]))

    learned = facts["loss_on_own_text"]
    lines = [
        f"{facts['models']} models ({facts['unpublished']} more unpublished): "
        f"{counts(facts['by_configuration'])}",
        f"splits: {counts(facts['by_split'])}",
        f"kinds: {counts(facts['by_kind'])}",
        f"merges: {counts(facts['merge_methods'])}",
        f"independent pairs of one configuration: {sum(facts['independent_pairs'].values()):,}",
        "",
        "relative change        least   quartiles              most",
    ]
    for kind, (least, low, middle, high, most) in facts["relative_change"].items():
        lines.append(f"  {kind:20} {least:7.2g} {low:7.2g} {middle:7.2g} {high:7.2g} {most:7.2g}")
    lines += [
        "",
        f"fine-tunes that learned their text: {learned['improved']} of {learned['n']}, "
        f"median gain {learned['median_gain']} nats",
        "cosine of changes        n      10 %  median    90 %",
    ]
    for group, row in facts["cosines"].items():
        lines.append(
            f"  {group:20} {row['n']:5d} {row['low']:8.3f} {row['median']:7.3f} {row['high']:7.3f}"
        )
    return "\n".join(lines)
