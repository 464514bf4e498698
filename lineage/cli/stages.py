"""Commands that do work: the stages, the whole run, the demonstration, the local Hub."""

from __future__ import annotations

import argparse
import os

from lineage.cli import online
from lineage.cli.output import print_json, print_text, say

__all__ = ["crawl", "demo", "fingerprint", "infer", "measure", "parse", "publish", "run", "serve"]


def crawl(options: argparse.Namespace) -> int:
    """``herdbook crawl``."""
    from lineage.pipeline.crawl import crawl as stage
    from lineage.pipeline.crawl import plan_crawl
    from lineage.pipeline.reports import plan_lines, report_lines
    from lineage.store.home import Home

    home = Home(options.home)
    if options.dry_run:
        plan = plan_crawl(home, options.endpoint, census=options.census)
        return _print(plan, options.json, plan_lines(plan))
    report = stage(
        home,
        options.endpoint,
        author=options.author,
        search=options.search,
        ids=options.ids,
        limit=options.limit,
        census=options.census,
        details=options.details,
    )
    if options.json:
        print_json(report)
        return 0
    return _told(report_lines("crawl", report))


def parse(options: argparse.Namespace) -> int:
    """``herdbook parse --again``."""
    from lineage.pipeline.again import parse_again
    from lineage.pipeline.reports import report_lines
    from lineage.store.home import Home

    report = parse_again(Home(options.home))
    if options.json:
        print_json(report)
        return 0
    return _told(report_lines("parse", report))


def fingerprint(options: argparse.Namespace) -> int:
    """``herdbook fingerprint``."""
    from lineage.pipeline.executors import make_executor
    from lineage.pipeline.fingerprint import fingerprint as stage
    from lineage.pipeline.fingerprint import plan_fingerprint
    from lineage.pipeline.reading import ReadingOptions
    from lineage.pipeline.reports import fingerprint_plan_lines, report_lines
    from lineage.store.home import Home

    home = Home(options.home)
    depth = ReadingOptions(
        options.stage,
        options.budget_bytes,
        options.budget_requests,
        options.device,
        options.memory_bytes,
    )
    if options.dry_run:
        plan = plan_fingerprint(home, depth, limit=options.limit)
        return _print(plan, options.json, fingerprint_plan_lines(plan))
    report = stage(
        home,
        options.endpoint,
        depth,
        executor=make_executor(
            options.executor, options.workers, options.address, options.num_gpus
        ),
        parts=options.parts,
        use_cache=not options.no_cache,
        limit=options.limit,
    )
    if options.json:
        print_json(report)
        return 0
    return _told(report_lines("fingerprint", report))


def infer(options: argparse.Namespace) -> int:
    """``herdbook infer``."""
    from lineage.pipeline.infer import infer as stage
    from lineage.pipeline.reports import report_lines
    from lineage.store.home import Home

    report = stage(Home(options.home), ignore_claims=options.ignore_claims, parts=options.parts)
    return _told(report_lines("infer", report))


def measure(options: argparse.Namespace) -> int:
    """``herdbook measure``."""
    from lineage.pipeline.measure import measure as stage
    from lineage.pipeline.reports import report_lines
    from lineage.pipeline.verdicts import keep_verdicts
    from lineage.store.home import Home

    home = Home(options.home)
    report = stage(home, ignore_claims=options.ignore_claims)
    judged = keep_verdicts(home, ignore_claims=options.ignore_claims)
    return _told([*report_lines("measure", report), *report_lines("lewontin", judged)])


def publish(options: argparse.Namespace) -> int:
    """``herdbook publish``."""
    from lineage.errors import UsageError
    from lineage.pipeline.publish import publish as stage
    from lineage.pipeline.reports import report_lines
    from lineage.store.home import Home

    if options.to is not None:
        return online.publish(options)
    if options.revision is not None or options.dry_run or options.endpoint is not None:
        raise UsageError("--revision, --dry-run and --endpoint go with --to")
    report = stage(
        Home(options.home),
        ignore_claims=options.ignore_claims,
        accept_losses=options.accept_losses,
    )
    if options.json:
        print_json(report)
        return 0
    return _told(report_lines("publish", report))


def run(options: argparse.Namespace) -> int:
    """``herdbook run``."""
    from lineage.pipeline.run import run as whole
    from lineage.store.home import Home

    whole(
        Home(options.home),
        options.endpoint,
        author=options.author,
        search=options.search,
        ids=options.ids,
        limit=options.limit,
        budget_bytes=options.budget_bytes,
        ignore_claims=options.ignore_claims,
        parts=options.parts,
    )
    say(f"next: herdbook explore --home {options.home}")
    return 0


def demo(options: argparse.Namespace) -> int:
    """``herdbook demo``."""
    from lineage.pipeline.demo import demo as whole
    from lineage.pipeline.explore import explore
    from lineage.store.home import Home

    home = Home(options.home)
    for line in whole(home):
        print_text(line)
    if options.exit:
        return 0
    print_text(f"explorer: http://localhost:{options.port}   (Ctrl-C stops it)")
    return explore(home, options.port)


def serve(options: argparse.Namespace) -> int:
    """``herdbook hub serve``."""
    from crawler.hub_datasets import DatasetHub
    from crawler.hub_server import Faults
    from crawler.hub_server import serve as serve_folder
    from lineage.errors import NotFoundError, UsageError

    if not options.folder.is_dir():
        raise NotFoundError(f"no folder {options.folder}")
    token = os.environ.get("HF_TOKEN", "")
    if options.datasets is not None and not token:
        raise UsageError("--datasets wants a token that may write them in HF_TOKEN")
    datasets = DatasetHub(options.datasets, {token: "*"}) if options.datasets else None
    say(f"serving {options.folder} at http://{options.host}:{options.port} (Ctrl-C stops it)")
    serve_folder(
        options.folder,
        options.host,
        options.port,
        faults=Faults(rate_limit_every=options.rate_limit_every),
        vanish=options.vanish,
        datasets=datasets,
    )
    return 0


def _print(value: object, as_json: bool, lines: list[str]) -> int:
    if as_json:
        print_json(value)
    else:
        for line in lines:
            print_text(line)
    return 0


def _told(lines: list[str]) -> int:
    for line in lines:
        say(line)
    return 0
