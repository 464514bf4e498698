"""A learned calibration as the Python module that is committed, formatted as ruff would."""

from __future__ import annotations

from collections.abc import Mapping

from lineage.infer.curves import Calibration, Curve

__all__ = ["table_source"]


def table_source(table: Calibration) -> str:
    """The module ``lineage/infer/calibration_table.py`` that holds `table`."""
    day = table.learned_on
    curves = (*table.parents.values(), *table.direction.values())
    slope = ", Slope" if any(curve.slopes for curve in curves) else ""
    lines = [
        '"""What the witnesses of a finding are worth.',
        "",
        "Written by ``python -m benchmarks.zoo calibrate``.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from datetime import date",
        "from typing import Final",
        "",
        f"from lineage.infer.curves import Calibration, Curve{slope}",
        "",
        '__all__ = ["LEARNED"]',
        "",
        "LEARNED: Final = Calibration(",
        f"    source={_quoted(table.source)},",
        f"    digest={_quoted(table.digest)},",
        f"    learned_on=date({day.year}, {day.month}, {day.day}),",
        f"    software={_quoted(table.software)},",
        f"    n_families={table.n_families},",
        f"    n_findings={table.n_findings},",
        *_curves_source("parents", table.parents),
        *_curves_source("direction", table.direction),
        ")",
    ]
    return "\n".join(lines) + "\n"


def _curves_source(name: str, curves: Mapping[str, Curve]) -> list[str]:
    inside = [line for group, curve in curves.items() for line in _curve_source(group, curve)]
    return [f"    {name}={{", *inside, "    },"] if inside else [f"    {name}={{}},"]


def _curve_source(group: str, curve: Curve) -> list[str]:
    slopes = [f"Slope({_quoted(s.witness)}, {s.weight}, {s.centre})," for s in curve.slopes]
    lines = [
        f"        {_quoted(group)}: Curve(",
        f"            n={curve.n},",
        f"            right={curve.right},",
        f"            intercept={curve.intercept},",
    ]
    if len(slopes) == 1:
        lines.append(f"            slopes=({slopes[0]}),")
    elif slopes:
        inside = [f"                {slope}" for slope in slopes]
        lines += ["            slopes=(", *inside, "            ),"]
    return [*lines, "        ),"]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
