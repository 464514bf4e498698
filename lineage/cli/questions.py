"""Commands that answer questions: show, edges, compare, evaluate, explore, status."""

from __future__ import annotations

import argparse
import sys

from lineage.cli.online import fetch_into
from lineage.cli.output import print_json, print_table, print_text
from lineage.errors import UsageError

__all__ = ["compare", "edges", "evaluate", "explore", "show", "status"]


def show(options: argparse.Namespace) -> int:
    """``herdbook show``."""
    from lineage.pipeline.show import detail_lines, show_model
    from lineage.store.home import Home

    detail = show_model(Home(options.home), options.model)
    if options.json:
        print_json(detail)
        return 0
    for line in detail_lines(detail):
        print_text(line)
    return 0


def edges(options: argparse.Namespace) -> int:
    """``herdbook edges``."""
    from lineage.errors import UsageError
    from lineage.export.edges import edges_csv, edges_json, edges_parquet
    from lineage.pipeline.show import all_edges
    from lineage.store.home import Home

    if options.format == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is binary: redirect it, herdbook edges --format parquet > FILE")
    found = all_edges(Home(options.home))
    if options.format == "csv":
        sys.stdout.write(edges_csv(found))
    elif options.format == "json":
        sys.stdout.write(edges_json(found))
    elif options.format == "parquet":
        sys.stdout.buffer.write(edges_parquet(found))
    else:
        print_table(
            ("child", "parent", "relation", "kind", "weight", "verdict", "grade"),
            [
                (
                    edge.child,
                    edge.parent,
                    edge.relation,
                    edge.kind or "",
                    "" if edge.weight is None else f"{edge.weight:.3f}",
                    str(edge.verdict),
                    str(edge.grade),
                )
                for edge in found
            ],
        )
    return 0


def compare(options: argparse.Namespace) -> int:
    """``herdbook compare``."""
    from lineage.pipeline.compare import compare as stage

    comparison = stage(options.a, options.b, endpoint=options.endpoint)
    if options.json:
        print_json(comparison.to_dict())
        return 0
    for line in comparison.lines():
        print_text(line)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """``herdbook evaluate``."""
    from lineage.pipeline.evaluate import evaluate as stage
    from lineage.store.home import Home

    evaluation = stage(Home(options.home), options.truth)
    if options.json:
        print_json(evaluation.to_dict())
    else:
        print_table(("figure", "value"), evaluation.rows())
    return 0


def explore(options: argparse.Namespace) -> int:
    """``herdbook explore``."""
    from lineage.pipeline.explore import explore as start
    from lineage.store.home import Home
    from lineage.store.publication import read_manifest

    home = Home(options.home)
    if options.source is not None:
        fetch_into(home, options.source, options.endpoint)
    elif options.endpoint is not None:
        raise UsageError("--endpoint goes with --from")
    read_manifest(home)
    print_text(f"explorer: http://localhost:{options.port}   (Ctrl-C stops it)")
    sys.stdout.flush()
    return start(home, options.port)


def status(options: argparse.Namespace) -> int:
    """``herdbook status``."""
    from lineage.pipeline.status import read_status
    from lineage.store.home import Home

    found = read_status(Home(options.home))
    if options.json:
        print_json(found)
        return 0
    print_table(("count", "n"), [(name, str(n)) for name, n in found.counts.items()])
    if found.problems:
        print_text()
        print_table(
            ("stage", "problem", "n"), [(p.stage, p.code, str(p.n)) for p in found.problems]
        )
    print_text()
    print_table(
        ("run", "stage", "started (UTC)", "seconds"),
        [
            (
                str(run.run_id),
                run.stage,
                f"{run.started_at:%Y-%m-%d %H:%M:%S}",
                "unfinished" if run.seconds is None else f"{run.seconds:.1f}",
            )
            for run in found.runs
        ],
    )
    print_text()
    print_text(f"published: {found.published or 'nothing yet; run `herdbook publish`'}")
    return 0
