"""The whole run: every stage in order, each doing only what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lineage.pipeline.crawl import crawl
from lineage.pipeline.fingerprint import fingerprint
from lineage.pipeline.infer import infer
from lineage.pipeline.measure import measure
from lineage.pipeline.progress import talk
from lineage.pipeline.publish import PublishReport, publish
from lineage.pipeline.reading import ReadingOptions
from lineage.pipeline.reports import Report, report_lines
from lineage.pipeline.verdicts import keep_verdicts
from lineage.store.home import Home
from lineage.weights.stages import BUDGET_BYTES

__all__ = ["run"]


def run(
    home: Home,
    endpoint: str | None = None,
    *,
    author: str | None = None,
    search: str | None = None,
    ids: Path | None = None,
    limit: int | None = None,
    budget_bytes: int = BUDGET_BYTES,
    ignore_claims: bool = False,
    parts: str | None = None,
) -> PublishReport:
    """Crawl, fingerprint, infer, measure, judge and publish; says what each stage did on stderr.

    Raises
    ------
    CrawlError
        If the listing of the Hub cannot be had at all.
    HerdbookError
        If the home cannot be used, or nothing could be read.
    """

    def crawled() -> Report:
        return crawl(home, endpoint, author=author, search=search, ids=ids, limit=limit)

    stages: tuple[tuple[str, Callable[[], Report]], ...] = (
        ("crawl", crawled),
        (
            "fingerprint",
            lambda: fingerprint(
                home, endpoint, ReadingOptions(budget_bytes=budget_bytes), parts=parts
            ),
        ),
        ("infer", lambda: infer(home, ignore_claims=ignore_claims, parts=parts)),
        ("measure", lambda: measure(home, ignore_claims=ignore_claims)),
        ("lewontin", lambda: keep_verdicts(home, ignore_claims=ignore_claims)),
    )
    for number, (name, stage) in enumerate(stages, start=1):
        talk(f"[{number}/6] {name} …")
        for line in report_lines(name, stage()):
            talk(line)
    talk("[6/6] publish …")
    report = publish(home, ignore_claims=ignore_claims)
    for line in report_lines("publish", report):
        talk(line)
    return report
