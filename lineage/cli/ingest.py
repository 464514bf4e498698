"""``herdbook ingest``: tables of counts, scores and models that others made."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from lineage.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from lineage.pipeline.ingest import IngestReport

__all__ = ["add_ingest"]

_KINDS = {
    "downloads": (
        "enter downloads and likes, each with its time",
        "herdbook ingest downloads counts.csv --date 2026-08-22 --dry-run",
    ),
    "scores": (
        "enter scores of a leaderboard as traits",
        "herdbook ingest scores leaderboard.csv --lower-is-better Perplexity --dry-run",
    ),
    "models": (
        "enter models of a Hub-wide snapshot, where it knows more than the register",
        "herdbook ingest models hf://datasets/cfahlgren1/hub-stats/models.parquet"
        " --date 2026-08-22",
    ),
}
_SEPARATOR = re.compile(r",(?=[a-z_0-9]+=)")
_MAX_CELL_CHARACTERS = 60


class _Adder(Protocol):
    """What adds one command to a parser."""

    def command(
        self,
        name: str,
        summary: str,
        example: str,
        run: Callable[[argparse.Namespace], int] | None,
        *,
        home: bool = True,
    ) -> argparse.ArgumentParser:
        """Add a command."""


def add_ingest(
    adder: _Adder,
    inside: Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], _Adder],
) -> None:
    """Add ``ingest`` to the commands; `inside` makes what adds its kinds."""
    parent = adder.command(
        "ingest",
        "enter tables of downloads, scores or models that others made",
        "herdbook ingest scores leaderboard.csv --dry-run",
        None,
        home=False,
    )
    kinds = inside(parent.add_subparsers(required=True, metavar="KIND"))
    for kind, (summary, example) in _KINDS.items():
        parser = kinds.command(kind, summary, example, _ingest)
        parser.set_defaults(kind=kind)
        parser.add_argument(
            "file",
            metavar="FILE",
            help="CSV, Parquet, JSON or JSON lines: a path, a pattern, or hf://…",
        )
        parser.add_argument(
            "--map",
            type=_mapping,
            action="append",
            default=[],
            metavar="FIELD=COLUMN[,…]",
            help="which column means what; an empty COLUMN means none",
        )
        parser.add_argument(
            "--date", type=_moment, metavar="DATE", help="when rows without a time were seen"
        )
        parser.add_argument(
            "--endpoint",
            metavar="URL",
            help="the Hub of hf:// addresses (default: $HF_ENDPOINT, else the real Hub)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what was understood and write nothing"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
        if kind != "models":
            parser.add_argument(
                "--names",
                metavar="FILE",
                help="table that says which model each key of FILE means",
            )
        if kind == "scores":
            for option, text in (
                ("--score", "the only columns that are scores (default: all of numbers)"),
                ("--lower-is-better", "scores that are better when lower"),
                ("--higher-is-better", "scores that are better when higher"),
            ):
                parser.add_argument(
                    option, action="append", default=[], metavar="COLUMN", help=text
                )


def _mapping(text: str) -> dict[str, str]:
    found = {}
    for part in _SEPARATOR.split(text):
        name, equals, column = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{part[:100]!r} is not FIELD=COLUMN")
        found[name.strip()] = column
    return found


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a date such as 2026-08-22") from error
    if not 2000 <= moment.year < 2200:
        raise argparse.ArgumentTypeError("must lie between the years 2000 and 2199")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _ingest(options: argparse.Namespace) -> int:
    """``herdbook ingest``."""
    from crawler.bulk import Kind
    from lineage.pipeline.ingest import IngestOptions, ingest
    from lineage.store.home import Home

    mapped: dict[str, str] = {}
    for part in options.map:
        mapped |= part
    report = ingest(
        Home(options.home),
        Kind(options.kind),
        options.file,
        IngestOptions(
            mapped=mapped,
            date=options.date,
            names=getattr(options, "names", None),
            scores=tuple(getattr(options, "score", ())),
            lower_is_better=tuple(getattr(options, "lower_is_better", ())),
            higher_is_better=tuple(getattr(options, "higher_is_better", ())),
            endpoint=options.endpoint,
            is_dry_run=options.dry_run,
        ),
    )
    if options.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _print(report: IngestReport) -> None:
    ending = " (dry run: nothing is written)" if report.is_dry_run else ""
    print_text(f"{report.kind} of {report.file}: {report.n_rows:,} rows{ending}")
    print_text(f"taken: {report.n_accepted:,} rows of {report.n_models:,} models")
    print_text(f"time: {report.time}")
    _print_columns(report)
    said = "would write" if report.is_dry_run else "wrote"
    print_text(f"{said}: " + ", ".join(f"{name} {n:,}" for name, n in report.counts))
    for title, refusals in (("refused rows", report.refused), ("unreadable cells", report.unread)):
        for one in refusals:
            examples = ", ".join(_cut(example) for example in one.examples)
            print_text(f"{title}: {one.reason} {one.n:,}" + (f" ({examples})" if examples else ""))
    if report.sample and (report.is_dry_run or sys.stdout.isatty()):
        print_text()
        print_table(
            report.sample_columns,
            [tuple(_cut(cell) for cell in row) for row in report.sample],
            "first rows",
        )


def _print_columns(report: IngestReport) -> None:
    if report.is_dry_run:
        rows = [
            (_cut(use.column), _cut(use.type), use.meaning or "(ignored)") for use in report.columns
        ]
        print_text()
        print_table(("column", "type", "understood as"), rows)
        print_text()
        return
    understood = [use for use in report.columns if use.meaning is not None]
    ignored = [_cut(use.column) for use in report.columns if use.meaning is None]
    said = "; ".join(f"{_cut(use.column)} = {use.meaning}" for use in understood)
    print_text(f"understood: {said}")
    if ignored:
        print_text("ignored: " + ", ".join(ignored))


def _cut(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= _MAX_CELL_CHARACTERS else whole[: _MAX_CELL_CHARACTERS - 1] + "…"
