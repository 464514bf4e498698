"""Commands about what people say of parents: parse-card, evaluate-claims."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lineage.cli.output import print_json, print_table, print_text

__all__ = ["evaluate_claims", "parse_card", "register"]


def parse_card(options: argparse.Namespace) -> int:
    """``herdbook parse-card``."""
    from lineage.pipeline.parse_card import SCHEMA, parse_cards

    readings = parse_cards(options.paths, options.child)
    if options.json:
        print_json({"schema": SCHEMA, "cards": [reading.to_dict() for reading in readings]})
        return 0
    for n, reading in enumerate(readings):
        if n > 0:
            print_text()
        for line in reading.lines():
            print_text(line)
    return 0


def evaluate_claims(options: argparse.Namespace) -> int:
    """``herdbook evaluate-claims``."""
    from lineage.pipeline.evaluate_claims import evaluate_claims as evaluate

    found = evaluate(
        options.cards,
        labels=options.labels,
        recipes=options.recipes,
        radar=options.radar,
        judged=options.judged,
        half=options.half,
    )
    if options.json:
        print_json(found.to_dict())
        return 0
    print_table(found.columns, found.rows())
    for miss in found.miss_lines():
        print_text(miss)
    return 0


def register(
    command: Callable[..., argparse.ArgumentParser],
    json_option: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the commands of this module by `command`, which adds one."""
    parse = command(
        "parse-card",
        "print what was understood of model cards on this disk",
        "herdbook parse-card README.md --child me/my-model",
        parse_card,
        home=False,
    )
    parse.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE|DIR",
        help="a card, the folder of a repository, or a folder that is searched for *.md",
    )  # fmt: skip
    parse.add_argument("--child", metavar="MODEL", help="owner/name of the model, for one card")
    json_option(parse)
    evaluate = command(
        "evaluate-claims",
        "score what is read from cards, tags and recipes against known parents",
        "herdbook evaluate-claims --cards cards.tar.gz --judged docs/claims-judged.csv",
        evaluate_claims,
        home=False,
    )
    evaluate.add_argument(
        "--cards", type=Path, required=True, metavar="DIR|TAR",
        help="folders with README.md and manifest.yaml",
    )  # fmt: skip
    for option, metavar, about in (
        ("--labels", "DIR", "JSON files of models labelled by hand, with upstream_model"),
        ("--recipes", "DIR", "mergekit's configurations, read by mergekit too where installed"),
        ("--radar", "DIR", "models.jsonl.gz with tags and edges_from_tags.csv.gz"),
        ("--judged", "CSV", "child, parent, verdict (right, wrong, missed) of claims in prose"),
    ):
        evaluate.add_argument(option, type=Path, metavar=metavar, help=about)
    evaluate.add_argument(
        "--half", choices=("development", "held-out"), metavar="HALF",
        help="development or held-out: only that half of the cards (default: all)",
    )  # fmt: skip
    json_option(evaluate)
