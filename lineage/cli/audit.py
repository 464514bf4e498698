"""The command audit: what was declared of models against what their weights show."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable

from lineage.cli.output import print_json, print_table, print_text, say

__all__ = ["audit", "register"]

_OBJECTION = 7
"""Exit code when a declaration is wrong."""


def audit(options: argparse.Namespace) -> int:
    """``herdbook audit``."""
    from lineage.errors import UsageError
    from lineage.pipeline.audit import COLUMNS
    from lineage.pipeline.audit import audit as stage
    from lineage.store.home import Home

    chosen = [bool(options.models), options.author is not None, options.all]
    if sum(chosen) != 1:
        raise UsageError("name models, or --author A, or --all, and one of these only")
    if options.author == "":
        raise UsageError("--author needs a name")
    report = stage(
        Home(options.home), options.models, author=options.author or "", strict=options.strict
    )
    if options.json:
        print_json(report.to_dict())
    elif sys.stdout.isatty():
        for line in report.lines(shutil.get_terminal_size().columns):
            print_text(line)
    else:
        print_table(COLUMNS, report.rows())
    if not options.json:
        say(report.summary)
    return _OBJECTION if report.n_objections else 0


def register(
    command: Callable[..., argparse.ArgumentParser],
    json_option: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the command by `command`, which adds one."""
    parser = command(
        "audit",
        "compare what was declared of models with what their weights show, claim by claim",
        "herdbook audit quietriver/dipper-v1 --home home/demo",
        audit,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="owner/name")
    parser.add_argument("--author", metavar="A", help="all models of this owner")
    parser.add_argument("--all", action="store_true", help="all models of the register")
    parser.add_argument(
        "--strict", action="store_true",
        help="undeclared and unverifiable parents count as objections too",
    )  # fmt: skip
    json_option(parser)
