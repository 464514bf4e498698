"""The command behave: models side by side by what they say next."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lineage.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from lineage.pipeline.behaviour.behave import BehaveOptions

__all__ = ["behave", "register"]


def behave(options: argparse.Namespace) -> int:
    """``herdbook behave``."""
    from lineage.pipeline.behaviour.behave import behave as stage
    from lineage.pipeline.behaviour.behave import plan_behave
    from lineage.pipeline.behaviour.report import COLUMNS
    from lineage.store.home import Home

    home, wanted = Home(options.home), _options(options)
    if options.dry_run:
        plan = plan_behave(home, options.models, wanted)
        if options.json:
            print_json(plan)
        else:
            for line in plan.lines():
                print_text(line)
        return 0
    report = stage(home, options.models, wanted)
    if options.newick is not None and report.study.newick is not None:
        options.newick.write_text(report.study.newick + "\n", encoding="utf-8")
    if options.json:
        print_json(report.to_dict())
        return 0
    print_table(COLUMNS, [row.cells() for row in report.models])
    if report.study.newick is not None and options.newick is None:
        print_text()
        print_text(report.study.newick)
    print_text()
    for line in report.lines():
        print_text(line)
    return 0


def _options(options: argparse.Namespace) -> BehaveOptions:
    from lineage.errors import NotFoundError, UsageError
    from lineage.pipeline.behaviour.alleles import BehaviourSettings
    from lineage.pipeline.behaviour.behave import BehaveOptions
    from lineage.pipeline.behaviour.endpoint import Endpoint
    from lineage.pipeline.behaviour.prompts import read_prompts

    if (options.endpoint is None) != (options.model is None):
        raise UsageError("--endpoint and --model belong together")
    if options.folder is not None and not options.folder.is_dir():
        raise NotFoundError(f"no folder {options.folder}")
    endpoint = None
    if options.endpoint is not None:
        key = os.environ.get("HERDBOOK_COMPLETIONS_KEY") or None
        endpoint = Endpoint(options.endpoint, options.model, key)
    return BehaveOptions(
        prompts=None if options.prompts is None else read_prompts(options.prompts),
        settings=BehaviourSettings(
            options.characters, options.temperature, options.samples, options.seed
        ),
        device=options.device,
        endpoint=endpoint,
        hub=options.hub,
        models=options.folder,
        use_cache=not options.no_cache,
        limit=options.limit,
        n_resamples=options.resamples,
    )


def register(
    command: Callable[..., argparse.ArgumentParser],
    json_option: Callable[[argparse.ArgumentParser], None],
    positive: Callable[[str], int],
) -> None:
    """Add the command by `command`, which adds one."""
    parser = command(
        "behave",
        "compare models by what they say next: their tree, against lineage and scores",
        "herdbook behave --models data/pocket --home home/demo",
        behave,
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL",
        help="folder or owner/name (default: every readable model of the register)",
    )  # fmt: skip
    parser.add_argument(
        "--models", dest="folder", type=Path, metavar="DIR",
        help="folder laid out as owner/name, looked at before the Hub",
    )  # fmt: skip
    parser.add_argument(
        "--hub", metavar="URL", help="the Hub (default: $HF_ENDPOINT, else the real Hub)"
    )
    parser.add_argument(
        "--no-cache", action="store_true",
        help="read from the Hub what its client has downloaded before, too",
    )  # fmt: skip
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts, one a line (default: our own 128)"
    )
    parser.add_argument(
        "--characters", type=positive, default=2, metavar="N",
        help="length of an allele (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="of the distribution; 0: the likeliest token only (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=positive, metavar="N",
        help="continuations drawn per prompt (default: 32 at an endpoint; of models run here the "
        "frequencies are computed)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="of draws, resamples and permutations (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=positive, default=200, metavar="N",
        help="trees of resampled prompts, for support (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where models are run (default: auto, a GPU where there is one)",
    )  # fmt: skip
    parser.add_argument(
        "--endpoint", metavar="URL",
        help="ask a model of an OpenAI-compatible endpoint too (/v1/completions; key: "
        "$HERDBOOK_COMPLETIONS_KEY)",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME", help="what the endpoint calls it")
    parser.add_argument("--limit", type=positive, metavar="N", help="run at most so many models")
    parser.add_argument(
        "--newick", type=Path, metavar="FILE", help="write the tree there instead of printing it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be run, without running it"
    )
    json_option(parser)
