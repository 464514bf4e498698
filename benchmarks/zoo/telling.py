"""The figures of a measurement as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.zoo.calibrating import tell_calibration

__all__ = ["tell"]


def tell(facts: Mapping[str, Any]) -> str:
    """A table in Markdown: what was reached, and what simpler rules reach."""
    lines = [
        f"Split {facts['split']}: {facts['n_models']} models of {facts['families']} families, "
        f"{facts['n_read']} read; inference {facts['seconds']} s. No claims, no dates.",
        "",
        "| question | reached |",
        "|---|---|",
        *(f"| {question} | {answer} |" for question, answer in _rows(facts)),
        "",
        "| configuration | independent pairs (of families) | "
        + " | ".join(f"p ≤ {alpha}" for alpha in next(iter(facts["null"].values()))["rates"])
        + " |",
        "|---|---|---|---|---|",
        *(_null_row(name, null) for name, null in facts["null"].items()),
        "",
        "Intervals are 95 %: of independent pairs (exact), then over pairs of families.",
    ]
    lines += ["", "| kind | parent right |", "|---|---|"]
    lines += [
        f"| {kind} | {_rate(rate)} |"
        for kind, rate in facts["lineage"]["parents"]["by_kind"].items()
    ]
    lines += ["", tell_calibration(facts["calibration"])]
    return "\n".join(lines)


def _null_row(name: str, null: Mapping[str, Any]) -> str:
    rates = " | ".join(
        f"{rate['rate']:.2g} ({_span(rate['binomial'])}; {_span(rate['by_families'])})"
        for rate in null["rates"].values()
    )
    return f"| {name} | {null['n']:,} ({null['n_family_pairs']}) | {rates} |"


def _span(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{low:.2g}–{high:.2g}"


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pairs, lineage, rules = facts["relatedness"], facts["lineage"], facts["baselines"]
    parents, merges = lineage["parents"], lineage["merges"]
    auc = "–" if pairs["auc"] is None else f"{pairs['auc']:.5f}"
    yield "related pairs: AUC", f"{auc} ({pairs['n_related']:,} against {pairs['n_independent']:,})"
    yield "related pairs that could not be compared", f"{pairs['n_related_untestable']:,}"
    yield (
        "true positives at no false one, of all",
        _rate(pairs["true_positive_rate_at_no_false"]),
    )
    yield "  equal configurations, called related", _rate(rules["configurations_equal"]["false"])
    yield "direct parent: precision", _rate(parents["precision"])
    yield "direct parent: recall outside ties", _rate(parents["recall_outside_ties"])
    yield "direct parent: recall", _rate(parents["recall"])
    yield "  up to copies: precision", _rate(parents["precision_up_to_copies"])
    yield "  up to copies: recall", _rate(parents["recall_up_to_copies"])
    yield "ties", _rate(parents["ties"])
    yield "ties of equal copies only", _rate(parents["ties_of_equal_copies"])
    yield "ties that hold the parent", _rate(parents["ties_with_true_parent"])
    yield "  nearest by cosine", _rate(rules["nearest_by_cosine_parent"])
    yield "  tree by distance and kurtosis", _rate(rules["kurtosis_tree_parent"])
    yield "direction, of decided", _rate(lineage["direction"]["right"])
    yield "single-parent children decided", _rate(lineage["direction"]["decided"])
    yield "direction told, of ties too", _rate(lineage["direction"]["told"])
    yield "  of these right", _rate(lineage["direction"]["told_right"])
    yield "kind", _rate(lineage["kinds"]["right"])
    yield "merge parents: F1", "–" if merges["f1"] is None else f"{merges['f1']:.3f}"
    yield "merge parents: exact sets", _rate(merges["exact_sets"])
    if merges["f1_up_to_copies"] is not None:
        exact = _rate(merges["exact_sets_up_to_copies"])
        yield "  up to copies: F1, exact sets", f"{merges['f1_up_to_copies']:.3f}, {exact}"
    yield "  non-negative least squares, base known", _rate(rules["least_squares_merges"])
    yield (
        "  the same, without copies, merges and descendants",
        _rate(rules["least_squares_merges_without_copies"]),
    )
    yield "merge method", _rate(merges["methods"])
    for how, error in merges["coefficient_error"].items():
        mean = "–" if error["mean"] is None else f"{error['mean']:.4f}"
        yield f"mean coefficient error, {how}", f"{mean} (n = {error['n']})"
    yield "GGUF source", _rate(lineage["gguf_sources"])
    yield "layer maps exact", _rate(lineage["layer_maps"])
    yield "  up to copies", _rate(lineage["layer_maps_up_to_copies"])
    for kind, counts in facts["cut_from_unpublished"].items():
        told = ", ".join(
            f"{counts[name]} {name.replace('_', ' ')}"
            for name in ("tie_with_parent", "tie_without", "wrong", "other_layers", "none")
            if counts.get(name)
        )
        n, right = counts["n"], counts.get("right", 0)
        yield f"cut from an unpublished {kind}: parent", f"{right} of {n}" + (told and f"; {told}")
        yield "  the nearest one", f"{counts['nearest']} of {n}"
    yield "adapter ranks exact", _rate(lineage["lora_ranks"])
    yield "adapter ranks that were told, exact", _rate(lineage["lora_ranks_told"])


def _rate(rate: Mapping[str, Any]) -> str:
    if not rate["n"]:
        return "– (none)"
    return f"{rate['value']:.3f} ({rate['right']:,} of {rate['n']:,})"
