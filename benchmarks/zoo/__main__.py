"""``python -m benchmarks.zoo``: build the proving ground, tell what it holds, learn from it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.zoo.plan import CONFIGURATIONS, N_FOUNDERS, SPLITS, Node, plan
from data.build_pocket.recipes import ancestry_of
from data.build_pocket.scheduling import quiet_workers


def main() -> int:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    building = commands.add_parser("build", help="make every model (an hour on two cores)")
    building.add_argument("--out", type=Path, required=True, help="folder; an old build goes on")
    building.add_argument("--jobs", type=int, default=2, help="processes (one thread each)")
    building.add_argument("--dry-run", action="store_true", help="tell what would be made")
    building.add_argument("--seed", type=int, default=0)
    building.add_argument("--founders", type=int, default=N_FOUNDERS, help="per configuration")
    building.add_argument(
        "--configurations", nargs="+", choices=CONFIGURATIONS, default=CONFIGURATIONS
    )
    building.add_argument(
        "--splits",
        nargs="+",
        choices=sorted(set(SPLITS)),
        default=sorted(set(SPLITS)),
        help="families of these splits only, as the whole plan has them",
    )
    building.add_argument("--effort", type=float, default=1.0, help="factor on training steps")
    building.add_argument(
        "--more-merges", type=int, default=0, metavar="N", help="N merges more in each family"
    )
    building.set_defaults(do=_build)
    telling = commands.add_parser("report", help="changes, losses, cosines of siblings' changes")
    telling.add_argument("folder", type=Path)
    telling.add_argument("--json", action="store_true")
    telling.set_defaults(do=_report)
    measuring = commands.add_parser("measure", help="the inference on one split, claims withheld")
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--split", choices=sorted(set(SPLITS)), default="test")
    measuring.add_argument("--json", action="store_true")
    measuring.set_defaults(do=_measure)
    calibrating = commands.add_parser("calibrate", help="how far findings can be believed")
    calibrating.add_argument("folders", nargs="+", type=Path)
    calibrating.add_argument(
        "--splits", nargs="+", choices=sorted(set(SPLITS) - {"test"}), default=["train"]
    )
    calibrating.add_argument("--write", action="store_true", help="replace the committed table")
    calibrating.add_argument("--json", action="store_true")
    calibrating.set_defaults(do=_calibrate)
    arguments = parser.parse_args()
    return int(arguments.do(arguments))


def _build(arguments: argparse.Namespace) -> int:
    whole = plan(
        arguments.seed,
        arguments.founders,
        tuple(arguments.configurations),
        arguments.effort,
        arguments.more_merges,
    )
    nodes = tuple(node for node in whole if node.split in arguments.splits)
    print(_summary(nodes), file=sys.stderr)
    if arguments.dry_run:
        return 0
    from benchmarks.zoo.building import AnotherPlanError, build

    quiet_workers()
    started = time.monotonic()
    try:
        build(nodes, arguments.out.resolve(), arguments.jobs)
    except AnotherPlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(nodes)} models after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _summary(nodes: tuple[Node, ...]) -> str:
    kinds = Counter(ancestry_of(node.recipe).kind for node in nodes)
    splits = Counter(node.split for node in nodes)
    parts = [", ".join(f"{n} {name}" for name, n in one.most_common()) for one in (kinds, splits)]
    return f"{len(nodes)} models: {parts[0]}\n{parts[1]}"


def _report(arguments: argparse.Namespace) -> int:
    from benchmarks.zoo.report import describe, in_words

    facts = describe(arguments.folder)
    print(json.dumps(facts, indent=1) if arguments.json else in_words(facts))
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.zoo.measuring import measure
    from benchmarks.zoo.telling import tell

    facts = measure(arguments.folder.resolve(), arguments.split)
    print(json.dumps(facts, indent=1) if arguments.json else tell(facts))
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from benchmarks.zoo.calibrating import calibrate, tell_calibration
    from benchmarks.zoo.table_module import table_source
    from lineage.infer import calibration_table

    today = datetime.now(UTC).date()
    learned, facts = calibrate(
        [folder.resolve() for folder in arguments.folders], arguments.splits, today
    )
    print(json.dumps(facts, indent=1) if arguments.json else tell_calibration(facts))
    if arguments.write:
        file = Path(calibration_table.__file__)
        file.write_text(table_source(learned.table), encoding="utf-8")
        print(f"written: {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
