"""The commands traits and lewontin: what models vary in, and whether it evolves by selection."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lineage.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from lineage.pipeline.inquiry import Scope
    from lineage.store.home import Home

__all__ = ["lewontin", "register", "traits"]

_FITNESSES = (
    "children", "descendants", "likes", "downloads", "likes-gained", "downloads-gained",
    "likes-in-window", "downloads-in-window",
)  # fmt: skip
_WIDEST = 100


def traits(options: argparse.Namespace) -> int:
    """``herdbook traits``."""
    from lineage.pipeline.lewontin import traits as stage
    from lineage.store.home import Home

    found = stage(Home(options.home), ignore_claims=options.ignore_claims)
    if options.json:
        print_json(
            [
                asdict(one.trait)
                | {"n_known": one.n_known, "n_models": one.n_models, "n_pairs": one.n_pairs}
                for one in found
            ]
        )
        return 0
    better = {True: "higher", False: "lower", None: ""}
    print_table(
        ("trait", "type", "unit", "better", "copied by construction", "source", "known", "missing",
         "parent and child"),
        [
            (
                one.trait.name,
                str(one.trait.type),
                one.trait.unit,
                better[one.trait.higher_is_better],
                "yes" if one.trait.is_constitutive else "no",
                one.trait.source,
                f"{one.n_known} of {one.n_models}",
                f"{100 * one.missing:.0f} %",
                str(one.n_pairs),
            )
            for one in found
        ],
    )  # fmt: skip
    return 0


def lewontin(options: argparse.Namespace) -> int:
    """``herdbook lewontin``."""
    from lineage.errors import UsageError
    from lineage.pipeline.inquiry import Scope
    from lineage.pipeline.lewontin import lewontin as stage
    from lineage.store.home import Home

    scope = Scope(
        options.clade,
        options.since,
        options.fitness,
        options.window_days,
        options.ignore_claims,
        options.seed,
    )
    if options.all and options.trait is not None:
        raise UsageError("--all asks about every trait: leave out --trait")
    if options.all:
        return _survey(Home(options.home), scope, is_json=options.json)
    found = stage(Home(options.home), trait=options.trait, scope=scope)
    if options.json:
        print_json(found.to_dict())
    else:
        _print_wrapped(found.lines())
    return 0


def _survey(home: Home, scope: Scope, *, is_json: bool) -> int:
    from lineage.pipeline.lewontin_survey import COLUMNS, survey

    found = survey(home, scope)
    if is_json:
        print_json(found.to_dict())
        return 0
    print_table(COLUMNS, [row.cells() for row in found.rows])
    print_text()
    _print_wrapped(found.lines())
    return 0


def _print_wrapped(lines: Iterable[str]) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        for part in textwrap.wrap(line, width, subsequent_indent=indent) or [""]:
            print_text(part)


def register(
    command: Callable[..., argparse.ArgumentParser],
    json_option: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the commands by `command`, which adds one."""
    parser = command(
        "traits",
        "list the traits of models, of how many each is known, and how it was measured",
        "herdbook traits --home home/demo",
        traits,
    )
    _claims_option(parser)
    json_option(parser)
    parser = command(
        "lewontin",
        "judge whether a trait meets Lewontin's conditions: variation, heredity, "
        "differential fitness",
        "herdbook lewontin --trait loss/python --fitness children --home home/demo",
        lewontin,
    )
    parser.add_argument(
        "--trait", metavar="T",
        help="see herdbook traits (default: the evaluation result that most parents and children "
        "both have)",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true",
        help="every trait, a line each, with q-values over the traits (Benjamini-Hochberg)",
    )  # fmt: skip
    parser.add_argument("--clade", metavar="MODEL", help="only this model and its descendants")
    parser.add_argument(
        "--since", type=_day, metavar="D", help="only models born since this day (2025-01-31)"
    )
    parser.add_argument(
        "--fitness", choices=_FITNESSES, default="children",
        help="what counts as propagation: one of %(choices)s; -gained is per day between a model's "
        "first and last observation, -in-window since its birth (default: %(default)s)",
        metavar="F",
    )  # fmt: skip
    parser.add_argument(
        "--window-days", type=_days, default=180.0, metavar="N",
        help="how long children, descendants and what is -in-window are counted from a model's "
        "birth, and how old a model must be for its likes to count (default: 180)",
    )  # fmt: skip
    _claims_option(parser)
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the resamples (default: %(default)s)"
    )
    json_option(parser)


def _claims_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ignore-claims", action="store_true", help="use what the weights show, nothing declared"
    )


def _day(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day like 2025-01-31") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of days")
    return days
