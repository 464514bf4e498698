"""The explanation of a pair as a page of plain text: the sentence first, then small tables."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from scipy.special import ndtr

from lineage.explorer.words import number, p_words, plural
from lineage.infer.explanation import Direction
from lineage.infer.side_by_side import LayerMatch, TensorPair, Total, best_layers, total
from lineage.model import PairVerdict
from lineage.pipeline.explain_report import ExplainReport, Relationship, Side, is_step, sentence

__all__ = ["page", "sparkline"]

_LABEL = 12
_NARROWEST = 50
_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_HELD = "\N{NO-BREAK SPACE}"
_MANY_EXPERTS = 8
_ORDER = ("embed", "q", "k", "v", "o", "gate", "up", "down")
_SAME_NUMBER = 1e-3
"""Relative difference below which two lines would tell a reader the same."""
_CHANCE = 1e-3
"""Chance that any of a matrix of independent layers passes for a match."""


def page(report: ExplainReport, width: int) -> list[str]:
    """The explanation for people, in lines of `width` characters where names allow."""
    width = max(width, _NARROWEST)
    lines = [*_wrapped(sentence(report), width), ""]
    before = ""
    for label, text in _facts(report):
        lines += _labelled("" if label == before else label, text, width)
        before = label
    for table in (_tensor_table(report, width), _coefficient_table(report, width)):
        lines += ["", *table] if table else []
    return [*lines, "", *_sources(report, width)]


def sparkline(values: Sequence[float | None], top: float, longest: int) -> str:
    """Values between 0 and `top` as bars of eight heights, a dot where there is none.

    More values than `longest` are averaged in equal runs.

    Examples
    --------
    >>> sparkline([0, 0.5, None, 1], 1, 10)
    '▁▅·█'
    >>> sparkline([0, 0, 1, 1], 1, 2)
    '▁█'
    """
    n = min(len(values), max(longest, 1))
    runs = [values[i * len(values) // n : (i + 1) * len(values) // n] for i in range(n)]
    return "".join(_bar([value for value in run if value is not None], top) for run in runs)


def _bar(values: Sequence[float], top: float) -> str:
    if not values:
        return _GAP
    share = math.fsum(values) / len(values) / top if top > 0 else 0.0
    return _BARS[round(min(max(share, 0.0), 1.0) * (len(_BARS) - 1))]


# -- facts, a line each -------------------------------------------------------------------------


def _facts(report: ExplainReport) -> list[tuple[str, str]]:
    facts = [("evidence", text) for text in _evidence(report)]
    if report.pair is None:
        return facts
    facts.append(("kinship", _kinship(report)))
    if report.link.relationship is not Relationship.ITSELF:
        facts += [("direction", text) for text in _direction(report)]
        facts += [("dates", text) for text in _dates(report)]
        if report.inherited is not None:
            facts.append(("inherited", _inherited(report)))
        if report.codes is not None:
            facts.append(("codes", _codes(report)))
    facts += [("layers", text) for text in _layers(report)]
    facts += [("tokens", text) for text in _tokens(report)]
    facts += [("recomputed", text) for text in _recomputed(report)]
    return facts + [("note", text) for text in report.notes]


def _evidence(report: ExplainReport) -> list[str]:
    """The facts of a finding that names the other model, ticked where they were made anew.

    Those of which a line of its own tells the same number are left to it.
    """
    finding = report.child.finding
    if finding is None or not report.link.relationship.is_finding:
        return []
    direction = report.pair.direction if report.pair else None
    told = {
        "arrow": direction.arrow if direction and _is_step(report) else None,
        "inherited_share": report.inherited.share if report.inherited else None,
        "codes_replayed": report.codes.replayed if report.codes else None,
    }
    agrees = {one.what: one.agrees for one in report.finding_rechecks}
    return [
        {True: "✓ ", False: "✗ ", None: ""}[agrees.get(fact.name)] + fact.text
        for fact in finding.evidence
        if fact.value is None
        or (known := told.get(fact.name)) is None
        or not math.isclose(fact.value, known, rel_tol=_SAME_NUMBER)
    ]


def _is_step(report: ExplainReport) -> bool:
    """Whether one of the two may have been trained from the other: then arrows mean something."""
    relationship, finding = report.link.relationship, report.child.finding
    if relationship is Relationship.CHILD:
        finding = report.parent.finding
    elif not relationship.is_finding:
        is_kin = report.pair is not None and report.pair.test.verdict is PairVerdict.RELATED
        return is_kin and relationship is not Relationship.COMMON_ANCESTOR
    return finding is not None and is_step(finding)


def _kinship(report: ExplainReport) -> str:
    assert report.pair is not None
    test = report.pair.test
    if test.statistic is None or test.p_value is None:
        return "no units that could be matched"
    words = {
        PairVerdict.RELATED: "related",
        PairVerdict.COMMON_INIT: "same initialisation, trained apart",
        PairVerdict.UNRELATED: "unrelated",
        PairVerdict.UNTESTABLE: "untestable",
    }[test.verdict]
    equal = (
        ""
        if test.bit_equality is None
        else f"; {_percent(test.bit_equality)} of matrix words equal"
    )
    return f"{words}: row matching z {number(test.statistic)}, {p_words(test.p_value)}{equal}"


def _direction(report: ExplainReport) -> list[str]:
    assert report.pair is not None
    direction, told = report.pair.direction, []
    if direction is not None and _is_step(report):
        if direction.arrow is not None:
            error = "" if direction.arrow_error is None else f" ± {direction.arrow_error:.2f}"
            told.append(f"arrow {_signed(direction.arrow)}{error} {_arrow_says(direction)}")
        if direction.n_left + direction.n_entered:
            told.append(
                f"{direction.n_left:,} words left powers of two downwards, {direction.n_entered:,} "
                f"came up to them (log-odds {_signed(direction.rounding_log_odds)})"
            )
        if direction.lattice_log_odds:
            told.append(
                "the finer of the two number types tells which was rounded from which (log-odds "
                f"{_signed(direction.lattice_log_odds)})"
            )
        if direction.embedding_growth:
            told.append(f"the embedding grew by a cosine of {direction.embedding_growth:+.3f}")
    return ["; ".join(told)] if told else []


def _arrow_says(direction: Direction) -> str:
    beyond = direction.arrow + 0.5 if direction.arrow is not None else 0.0
    if direction.arrow_error is not None and abs(beyond) < 2 * direction.arrow_error:
        return "does not tell"
    return f"speaks {'for' if beyond > 0 else 'against'} this direction"


def _dates(report: ExplainReport) -> list[str]:
    days = report.parent_older_days
    if not days or report.pair is None or report.pair.test.verdict is PairVerdict.UNRELATED:
        return []
    older = "parent" if days > 0 else "child"
    hours = abs(days) * 24
    age = f"{abs(days):,.0f} days" if hours >= 48 else f"{hours:,.1f} hours"
    return [f"the {older} was uploaded {age} earlier"]


def _inherited(report: ExplainReport) -> str:
    inherited = report.inherited
    assert inherited is not None
    if inherited.share is None:
        return f"{report.parent.model} left no mark since {inherited.reference}"
    error = "" if inherited.error is None else f" ± {100 * inherited.error:.1f}"
    n_words = inherited.kept + inherited.reverted
    kept = (
        f"; of {n_words:,} words it had set {_percent(inherited.kept / n_words)} are kept, the "
        "rest as before"
        if n_words
        else ""
    )
    return (
        f"{100 * inherited.share:.1f}{error} % of what {report.parent.model} had changed since "
        f"{inherited.reference}{kept}"
    )


def _layers(report: ExplainReport) -> list[str]:
    """In one sentence which layer stands where; told by the matrices that match best."""
    assert report.pair is not None
    told = [match for match in report.pair.layer_matches if any(best_layers(match))]
    if not told:
        return []
    match = max(told, key=_clearness)
    best = best_layers(match)
    n_cells = sum(z is not None for row in match.z for z in row)
    placed = {
        layer: found
        for layer, found in enumerate(best)
        if found is not None and float(ndtr(-found[1])) * n_cells < _CHANCE
    }
    tried = sum(found is not None for found in best)
    by = f"({', '.join(match.roles)})"
    if not placed:
        largest = max(found[1] for found in best if found is not None)
        return [f"none of {plural(tried, 'layer')} matches any: largest z {number(largest)} {by}"]
    lowest, highest = (f(found[1] for found in placed.values()) for f in (min, max))
    nexts = [found[2] for found in placed.values() if found[2] is not None]
    others = f", others at most {number(max(nexts))}" if nexts else ""
    where = _runs({layer: found[0] for layer, found in placed.items()})
    at_home = all(layer == found[0] for layer, found in placed.items())
    told_by = f"z {number(lowest)} to {number(highest)} {by}{others}"
    if at_home:
        n = f"all {tried}" if len(placed) == tried else f"{len(placed)} of {tried}"
        return [f"{n} in place: {told_by}"]
    unplaced = tried - len(placed)
    rest = f"; {unplaced} match none" if unplaced else ""
    return [f"child←parent {where}{rest}: {told_by}"]


def _clearness(match: LayerMatch) -> float:
    return math.fsum(found[1] for found in best_layers(match) if found is not None)


def _runs(places: dict[int, int]) -> str:
    """Which layer stands where, neighbours together: ``0–2←0–2, 3–5←1–3``."""
    runs: list[list[int]] = []
    for layer, other in sorted(places.items()):
        if runs and layer == runs[-1][1] + 1 and other == runs[-1][3] + 1:
            runs[-1][1], runs[-1][3] = layer, other
        else:
            runs.append([layer, layer, other, other])
    return ", ".join(f"{_span(a, b)}←{_span(c, d)}" for a, b, c, d in runs)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _tokens(report: ExplainReport) -> list[str]:
    """Rows of token matrices, where something happened to them."""
    assert report.pair is not None
    told = []
    for rows in report.pair.tokens:
        if rows.n_child == rows.n_parent and not rows.moved:
            continue
        size = (
            f"{rows.n_child:,} rows"
            if rows.n_child == rows.n_parent
            else f"{rows.n_parent:,} → {rows.n_child:,} rows"
        )
        told.append(
            f"{rows.role}: {size}; of {rows.n_compared:,} compared {rows.untouched:,} untouched, "
            f"{rows.moved:,} moved, {rows.changed:,} changed"
        )
    return told


def _codes(report: ExplainReport) -> str:
    codes = report.codes
    assert codes is not None
    return (
        f"quantising {report.parent.model} gives {_percent(codes.replayed)} of {codes.n_codes:,} "
        "stored codes"
    )


def _recomputed(report: ExplainReport) -> list[str]:
    rechecks = (*report.pair_rechecks, *report.finding_rechecks)
    wrong = [one for one in rechecks if not one.agrees]
    if not rechecks:
        return []
    if not wrong:
        return [f"all {len(rechecks)} stored values come out again"]
    differs = [
        f"{one.what.replace('_', ' ')} stored {_value(one.stored)}, now {_value(one.now)}"
        for one in wrong
    ]
    return [f"{len(wrong)} of {len(rechecks)} stored values differ: {'; '.join(differs)}"]


# -- tables -------------------------------------------------------------------------------------


def _tensor_table(report: ExplainReport, width: int) -> list[str]:
    """A line for each role: equal words and relative change, as totals and by layer."""
    pair = report.pair
    if pair is None or not pair.tensors or report.link.relationship is Relationship.ITSELF:
        return []
    if pair.test.verdict is PairVerdict.UNRELATED:
        return []
    every = total(pair.tensors)
    if every.n_equal == every.n_words:
        mapped = ", layers as mapped" if pair.layer_map else ""
        return [f"all {every.n_words:,} values of {every.n_tensors} tensors are equal{mapped}"]
    groups: dict[str, list[TensorPair]] = {}
    n_experts = _after_last(row.expert for row in pair.tensors)
    for row in pair.tensors:
        groups.setdefault(_group(row, n_experts), []).append(row)
    n_layers = _after_last(row.layer for row in pair.tensors)
    has_codes = report.codes is not None
    shown = {name: _series(rows, n_layers, has_codes) for name, rows in groups.items()}
    top = max((value for _, _, series in shown.values() for value in series if value), default=0.0)
    left = max(len(name) for name in (*groups, "tensors"))
    spans = (f"layer 0–{n_layers - 1}", f"0 to {_percent(top)}")
    room = (width - left - 36) // 2
    drawn = n_layers > 1 and room >= len(spans[1])
    cells = max(min(n_layers, room), len(spans[0]))
    lines = [
        f"{'tensors':<{left}}  {'values':>11}  {'codes' if has_codes else 'equal':>7}"
        + (f"  {spans[0]:<{cells}}  {'change':>7}  {spans[1]}" if drawn else f"  {'change':>7}")
    ]
    for name in sorted(groups, key=_place):
        sums, shares, changes = shown[name]
        share = _percent(sums.replayed if has_codes else sums.equal)
        change = f"{_percent(sums.relative_change):>7}"
        if drawn:
            change = f"{sparkline(shares, 1.0, room):<{cells}}  {change}  "
            change += sparkline(changes, top, room)
        lines.append(f"{name:<{left}}  {sums.n_words:>11,}  {share:>7}  {change}".rstrip())
    return lines


def _series(
    rows: Sequence[TensorPair], n_layers: int, has_codes: bool
) -> tuple[Total, list[float | None], list[float | None]]:
    """Totals of some tensors; their share of equal words (or codes) and their change by layer."""
    n_layers = n_layers if any(row.layer is not None for row in rows) else 0
    layers = [total(row for row in rows if row.layer == layer) for layer in range(n_layers)]
    return (
        total(rows),
        [one.replayed if has_codes else one.equal for one in layers],
        [one.relative_change for one in layers],
    )


def _after_last(numbers: Iterable[int | None]) -> int:
    return 1 + max((number for number in numbers if number is not None), default=-1)


def _group(tensor: TensorPair, n_experts: int) -> str:
    """Biases and normalisation gains are told together, as there are many, of few values.

    So are the matrices of an expert, or of all where there are many.
    """
    if tensor.expert is not None:
        return f"expert {tensor.expert}" if n_experts <= _MANY_EXPERTS else "experts"
    if tensor.role.endswith("bias"):
        return "biases"
    return "norms" if tensor.role.endswith("norm") else tensor.role


def _place(group: str) -> tuple[int, str]:
    return (_ORDER.index(group) if group in _ORDER else len(_ORDER), group)


def _coefficient_table(report: ExplainReport, width: int) -> list[str]:
    """A line for each parent of a merge: its share as found, and the fit by layer."""
    fit, finding = report.coefficients, report.child.finding
    if fit is None or finding is None:
        return []
    stated = {share.parent: share.weight for share in finding.parents}
    layers = [(layer, values) for layer, values in fit.by_layer() if layer is not None]
    top = max((abs(value) for _, values in layers for value in values), default=1.0)
    left = max(len(name) for name in (*fit.parents, "parents"))
    room = width - left - 18
    span = f"layer {layers[0][0]}–{layers[-1][0]}, 0 to {number(top, 2)}" if layers else ""
    drawn = len(layers) > 1 and room >= max(4, len(span))
    lines = [f"{'parents':<{left}}  {'share':>6}  {'fit':>6}" + (f"  {span}" if drawn else "")]
    for at, name in enumerate(fit.parents):
        bars = sparkline([values[at] for _, values in layers], top, room) if drawn else ""
        lines.append(
            f"{name:<{left}}  {stated[name]:>6.3f}  {fit.means[at]:>6.3f}  {bars}".rstrip()
        )
    return lines


# -- where it comes from ------------------------------------------------------------------------


def _sources(report: ExplainReport, width: int) -> list[str]:
    lines = []
    for label, side in (("child", report.child), ("parent", report.parent)):
        lines += _labelled(label, _side(side), width)
    run, made = report.pair_run, report.finding_run
    if run is not None:
        since = f", finding since run {made.run_id}" if made and made.run_id != run.run_id else ""
        code = f", code {run.code[:10]}" if run.code else ""
        told = f"run {run.run_id} of {run.started_at:%Y-%m-%d %H:%M} UTC{since}, herdbook"
        lines += _labelled("inferred", f"{told} {run.version}, {run.scheme or '?'}{code}", width)
    return lines


def _side(side: Side) -> str:
    if side.reading is None or side.unread is not None:
        return f"{side.model}, weights not read ({side.unread})"
    depth = plural(side.n_layers, "layer") if side.n_layers else "no layers"
    return f"{side.model} at {side.reading.revision[:10]}, {side.dtype or 'no matrices'}, {depth}"


# -- words and lines ----------------------------------------------------------------------------


def _percent(share: float | None) -> str:
    """A share in percent; 100 % and 0 % are said of all and of none only."""
    if share is None:
        return "–"
    if 0 < share < 1:
        percent = min(100 * share, 99.99)
        digits = 2 if percent >= 99.9 or percent < 0.1 else 1
        return f"{percent:.{digits}f} %" if percent >= 0.005 else "<0.01 %"
    return f"{100 * share:.0f} %"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _value(value: float | str | None) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else number(value, 6)


def _labelled(label: str, text: str, width: int) -> list[str]:
    return _wrapped(text, width, f"{label:<{_LABEL}}", " " * _LABEL)


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    lines = textwrap.wrap(
        text.replace(" %", _HELD + "%"),
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_HELD, " ") for line in lines]
