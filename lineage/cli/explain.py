"""The command explain: why two models are linked, computed again from their stored words."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable

from lineage.cli.output import print_json, print_text

__all__ = ["explain", "register"]

_DIFFERS = 10
"""Exit code when a stored value does not come out again."""


def explain(options: argparse.Namespace) -> int:
    """``herdbook explain``."""
    from lineage.pipeline.explain import explain as stage
    from lineage.pipeline.explain_page import page
    from lineage.store.home import Home

    report = stage(Home(options.home), options.child, options.parent, parts=options.parts)
    if options.json:
        print_json(report.to_dict())
    else:
        for line in page(report, shutil.get_terminal_size().columns):
            print_text(line)
    return _DIFFERS if report.recomputes is False else 0


def register(
    command: Callable[..., argparse.ArgumentParser],
    parts_option: Callable[[argparse.ArgumentParser], None],
    json_option: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the command by `command`, which adds one."""
    parser = command(
        "explain",
        "explain why two models are linked or not, computed again from their stored words",
        "herdbook explain mira-holt/Wick-pydev-docs mira-holt/Wick-pydev --home home/demo",
        explain,
    )
    parser.add_argument("child", metavar="CHILD", help="owner/name")
    parser.add_argument("parent", metavar="PARENT", help="owner/name")
    parts_option(parser)
    json_option(parser)
