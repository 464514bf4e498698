"""What a stage did, in words."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol

__all__ = ["Report", "report_lines"]


class Report(Protocol):
    """Any of the stages' frozen reports."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def report_lines(stage: str, report: Report) -> list[str]:
    """A stage's report in words: counts on one line, each breakdown on its own.

    Examples
    --------
    >>> from lineage.pipeline.infer import InferReport
    >>> report_lines("infer", InferReport(3, 3, 1, 2, (("founder", 2), ("finetune", 1)), ()))
    ['infer: models 3, pairs 3, related 1, changed 2', '  by kind: founder 2, finetune 1']
    """
    counts, breakdowns = [], []
    for field in fields(report):
        value = getattr(report, field.name)
        label = field.name.removeprefix("n_").replace("_", " ")
        if isinstance(value, tuple):
            parts = ", ".join(f"{name} {n}" for name, n in (_pair(one) for one in value))
            if parts:
                breakdowns.append(f"  {label}: {parts}")
        elif isinstance(value, bool):
            counts += [label] if value else []
        elif isinstance(value, int) and "bytes" in field.name:
            counts.append(f"{label} {value / 1e6:.1f} MB")
        elif isinstance(value, float):
            counts.append(f"{label} {value:.1f}")
        elif value is not None and value != "":
            counts.append(f"{label} {value}")
    return [f"{stage}: {', '.join(counts)}", *breakdowns]


def _pair(value: object) -> tuple[str, str]:
    """A breakdown's entry; entries of other forms are shown as they are."""
    if isinstance(value, tuple) and len(value) == 2:
        return str(value[0]), str(value[1])
    return str(value), ""
