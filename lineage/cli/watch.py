"""Commands that keep watch: watch, webhook."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lineage.cli.output import clean, print_json, say
from lineage.plain import plain

if TYPE_CHECKING:
    from datetime import datetime

    from lineage.pipeline.watch import WatchReport
    from lineage.pipeline.watched import Descendant, WatchedModel

__all__ = ["watch", "webhook"]

_MAX_SHOWN = 50
Line = tuple[str, str]
"""A style of rich, and the words."""


def watch(options: argparse.Namespace) -> int:
    """``herdbook watch``; 3 if not every model could be read."""
    from lineage.pipeline.watch import watch as stage
    from lineage.pipeline.watch import watch_repeatedly
    from lineage.store.home import Home

    def look() -> WatchReport:
        return stage(Home(options.home), options.endpoint, options.models, limit=options.limit)

    if options.every is None:
        report = look()
        _print(report, as_json=options.json)
        return 3 if any(model.state is None for model in report.models) else 0
    say(f"watching every {options.every} s (Ctrl-C stops it)")
    for report in watch_repeatedly(look, options.every, say=say):
        _print(report, as_json=options.json, on_one_line=True)
    return 0


def webhook(options: argparse.Namespace) -> int:
    """``herdbook webhook``."""
    import os

    from lineage.pipeline.webhook import make_webhook_app, read_secret, serve_webhook
    from lineage.store.home import Home

    home = Home(options.home)
    secret = read_secret(os.environ, options.secret_file)
    home.prepare()
    say(
        f"receiving webhooks at http://{options.host}:{options.port}/webhook into "
        f"{home.root / 'inbox'} (Ctrl-C stops it)"
    )
    serve_webhook(make_webhook_app(home, secret, log=_log), options.host, options.port)
    return 0


def _log(line: str) -> None:
    from datetime import UTC, datetime

    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}")


def _print(report: WatchReport, *, as_json: bool, on_one_line: bool = False) -> None:
    if as_json and on_one_line:
        print(json.dumps(plain(report)))
    elif as_json:
        print_json(report)
    else:
        _print_lines(report_lines(report))


def _print_lines(lines: Sequence[Line]) -> None:
    if not sys.stdout.isatty():
        for _, words in lines:
            print(clean(words))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for style, words in lines:
        console.print(Text(clean(words), style), soft_wrap=True)


def report_lines(report: WatchReport) -> list[Line]:
    """A watch in words: each line with its style."""
    lines: list[Line] = []
    for model in report.models:
        lines += _model_lines(model)
        lines.append(("", ""))
    notes = []
    if report.n_requested:
        notes.append(f"{report.n_requested:,} repositories were asked for by webhooks")
    if report.n_waiting:
        notes.append(
            f"{report.n_waiting:,} more descendants are listed and wait for the next watch or "
            "crawl (--limit)"
        )
    if report.n_not_asked:
        notes.append(f"{report.n_not_asked:,} descendants were not asked for children (--limit)")
    lines += [("yellow", note) for note in (*report.failures, *notes)]
    when = f"{report.observed_at:%Y-%m-%d %H:%M} UTC"
    lines.append(("dim", f"watched {when}, {report.n_requests:,} requests"))
    return lines


def _model_lines(model: WatchedModel) -> list[Line]:
    title = model.repo_id if model.name == model.repo_id else f"{model.repo_id} → {model.name}"
    lines: list[Line] = [("bold", title)]
    if model.state is not None:
        said = (
            None if model.state.status == "ok" else str(model.state.status),
            model.state.revision and f"commit {model.state.revision[:7]}",
            model.state.licence,
            _family(model),
        )
        lines.append(("", "  " + " · ".join(word for word in said if word)))
    if model.problem is not None:
        lines.append(("yellow", f"  {model.problem}"))
    if model.state is None:
        return lines
    if model.since is None:
        return [*lines, ("dim", "  watched for the first time: from now on new ones are told")]
    for change in model.changes:
        was, now = (_word(value, change.what) for value in (change.before, change.after))
        lines.append(("cyan", f"  {change.what}: {was} → {now}"))
    lines += _descendant_lines("new", "+", "green", model.new, model.name)
    lines += _descendant_lines("vanished", "-", "red", model.vanished, model.name)
    if model.late:
        n = len(model.late)
        lines.append(("dim", f"  {n:,} more entered the book, unchanged since the last watch"))
    if not (model.changes or model.new or model.vanished):
        lines.append(("dim", f"  nothing new since {_moment(model.since)}"))
    return lines


def _descendant_lines(
    word: str, sign: str, style: str, found: Sequence[Descendant], ancestor: str
) -> list[Line]:
    """A heading and one line for each, in columns; a long list is cut, and says so."""
    if not found:
        return []
    lines: list[Line] = [("", f"  {len(found):,} {word}")]
    rows = [
        (
            one.repo_id,
            one.relation or "descendant",
            f"{one.created_at:%Y-%m-%d}" if one.created_at else "",
            f"by {one.author or one.repo_id.partition('/')[0]}",
            "direct" if one.through == ancestor else f"through {one.through}",
            _why_gone(one) if sign == "-" else "",
        )
        for one in found[:_MAX_SHOWN]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]
        lines.append((style, f"    {sign} {'  '.join(cells)}".rstrip()))
    if len(found) > _MAX_SHOWN:
        lines.append((style, f"    … and {len(found) - _MAX_SHOWN:,} more (--json lists them)"))
    return lines


def _why_gone(one: Descendant) -> str:
    return "gone" if one.status == "gone" else "no longer says so"


def _word(value: str | None, what: str) -> str:
    if value is None:
        return "open" if what == "gating" else "none"
    return value[:7] if what == "commit" else value


def _family(model: WatchedModel) -> str:
    if model.n_descendants == 0:
        return "no descendants"
    many = "" if model.n_descendants == 1 else "s"
    return f"{model.n_descendants:,} descendant{many}, {model.n_direct:,} direct"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
