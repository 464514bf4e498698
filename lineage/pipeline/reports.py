"""What a stage did, in words."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from lineage.pipeline.crawl import CrawlPlan
    from lineage.pipeline.fingerprint import FingerprintPlan

__all__ = ["Report", "fingerprint_plan_lines", "plan_lines", "report_lines"]


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


def plan_lines(plan: CrawlPlan) -> list[str]:
    """What the next crawl would do, in words."""
    since = "" if plan.since is None else f", changes since {plan.since:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"listing: {plan.walk}{since}: about {plan.n_pages} pages for {plan.n_known} known models",
        f"details: {plan.n_read} of {plan.n_waiting} repositories that wait",
    ]
    if plan.queue:
        lines.append("  " + ", ".join(f"{reason} {n}" for reason, n in plan.queue))
    lines.append(f"requests: at least {plan.n_requests}; nothing was asked")
    return lines


def fingerprint_plan_lines(plan: FingerprintPlan) -> list[str]:
    """What the next fingerprint pass would read, in words."""
    return [
        f"fingerprint: {plan.n_todo} models at stage {plan.stage}; {plan.n_kept} are done",
        f"weights: at most {plan.at_most_bytes / 1e6:,.1f} MB of {plan.weight_bytes / 1e6:,.1f} MB "
        "in their files, headers and vocabularies apart; nothing was read",
    ]


def _pair(value: object) -> tuple[str, str]:
    """A breakdown's entry; entries of other forms are shown as they are."""
    if isinstance(value, tuple) and len(value) == 2:
        return str(value[0]), str(value[1])
    return str(value), ""
