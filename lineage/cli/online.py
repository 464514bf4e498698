"""Commands around a register that is online: publish to a Hub, fetch from one, ask for health."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from lineage.cli.output import print_json, print_text, say
from lineage.errors import UsageError

if TYPE_CHECKING:
    from crawler.publishing import DatasetAddress
    from lineage.pipeline.fetch import FetchReport
    from lineage.store.home import Home

__all__ = ["fetch", "fetch_into", "health", "publish", "register"]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
Option = Callable[[argparse.ArgumentParser], None]


def register(
    add: Callable[..., argparse.ArgumentParser], endpoint: Option, as_json: Option
) -> None:
    """Add ``fetch`` and ``health``."""
    command = add(
        "fetch",
        "fetch a published register from a Hub, checked, and make it the current one",
        "herdbook fetch hf://datasets/OWNER/NAME@REVISION --home online",
        fetch,
    )
    command.add_argument("address", metavar="ADDRESS", help="hf://datasets/OWNER/NAME[@REVISION]")
    command.add_argument(
        "--sha256", type=_sha256, metavar="HEX", help="digest that the database must have"
    )
    endpoint(command)
    as_json(command)
    command = add(
        "health",
        "tell whether the register opens and the explorer answers",
        "herdbook health --explorer 7860 --home online",
        health,
    )
    command.add_argument(
        "--explorer", type=int, metavar="P", help="ask the explorer on this port, too"
    )
    as_json(command)


def publish(options: argparse.Namespace) -> int:
    """``herdbook publish --to``."""
    from lineage.pipeline.reports import report_lines
    from lineage.pipeline.upload import ensure_published, upload
    from lineage.store.home import Home

    home, address = Home(options.home), _address(options.to, options.revision)
    if not options.dry_run:
        made = ensure_published(
            home, ignore_claims=options.ignore_claims, accept_losses=options.accept_losses
        )
        for line in report_lines("publish", made) if made else ():
            say(line)
    report = upload(home, address, endpoint=options.endpoint, dry_run=options.dry_run)
    if options.json:
        print_json(report)
        return 0
    size = f"{len(report.sent)} files, {report.sent_bytes / 1e6:.1f} MB"
    if report.is_dry_run:
        say(f"would send {size} to {address}: {', '.join(report.sent) or 'nothing'}")
        return 0
    say(f"sent {size}; {address} holds the register of {report.data_date[:10]}")
    print_text(str(report.address))
    return 0


def fetch(options: argparse.Namespace) -> int:
    """``herdbook fetch``."""
    from lineage.store.home import Home

    report = fetch_into(Home(options.home), options.address, options.endpoint, options.sha256)
    if options.json:
        print_json(report)
    else:
        print_text(report.address)
    return 0


def fetch_into(
    home: Home, address: str, endpoint: str | None, sha256: str | None = None
) -> FetchReport:
    """Fetch, and tell about it."""
    from lineage.pipeline.fetch import fetch as stage

    report = stage(home, _address(address, None), endpoint=endpoint, sha256=sha256)
    came = f"{report.received_bytes / 1e6:.1f} MB came" if report.received_bytes else "all was here"
    say(f"register of {report.data_date[:10]}, sha256 {report.sha256}: {came}")
    return report


def health(options: argparse.Namespace) -> int:
    """``herdbook health``."""
    from lineage.pipeline.health import check_health
    from lineage.store.home import Home

    found = check_health(Home(options.home), options.explorer)
    if options.json:
        print_json(found)
    else:
        print_text(f"{found.n_models} models, data of {found.data_date}, sha256 {found.sha256}")
    return 0


def _address(text: str, revision: str | None) -> DatasetAddress:
    from crawler.publishing import DatasetAddress

    try:
        address = DatasetAddress.parse(text)
        if revision is None:
            return address
        if address.revision is not None:
            raise UsageError("the address names a revision, and so does --revision")
        return DatasetAddress.parse(f"{address}@{revision}")
    except ValueError as error:
        raise UsageError(str(error)) from error


def _sha256(text: str) -> str:
    if _SHA256.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("must be 64 hex digits")
    return text.lower()
