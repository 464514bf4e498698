"""The parser, and what happens to errors: one sentence and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crawler.errors import CrawlError
from lineage import __version__
from lineage.cli import (
    audit,
    behave,
    claims,
    explain,
    lewontin,
    online,
    questions,
    recipes,
    stages,
    watch,
)
from lineage.cli.ingest import add_ingest
from lineage.cli.output import say
from lineage.errors import HerdbookError
from lineage.weights.stages import BUDGET_BYTES

__all__ = ["build_parser", "main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    run: Run | None = getattr(options, "run", None)
    if run is None:
        parser.print_help()
        return 0
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # findings show at once in a pipe too
        code = run(options)
        sys.stdout.flush()
        return code
    except HerdbookError as error:
        say(f"herdbook: {error}")
        return error.exit_code
    except CrawlError as error:
        say(f"herdbook: the Hub could not be read: {error}")
        return 1
    except KeyboardInterrupt:
        say("herdbook: interrupted; what was finished is kept")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone: give the interpreter nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        say(f"herdbook: {error.filename or 'the system'}: {error.strerror or error}")
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; each ``--help`` ends with an example."""
    parser = argparse.ArgumentParser(
        prog="herdbook",
        description="The pedigree register of the world's models: lineage read from weights.",
        epilog="example: herdbook demo",
    )
    parser.add_argument("--version", action="version", version=f"herdbook {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    adder = _Adder(commands)
    _add_stages(adder)
    _add_watches(adder)
    add_ingest(adder, _Adder)
    _add_questions(adder)
    audit.register(adder.command, _json)
    explain.register(adder.command, _parts, _json)
    recipes.register(adder.command, _endpoint, _json, _positive)
    claims.register(adder.command, _json)
    lewontin.register(adder.command, _json)
    behave.register(adder.command, _json, _positive)
    online.register(adder.command, _endpoint, _json)
    return parser


class _Adder:
    """Adds commands of one form: help, description, example, function."""

    def __init__(self, commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        self._commands = commands

    def command(
        self, name: str, summary: str, example: str, run: Run | None, *, home: bool = True
    ) -> argparse.ArgumentParser:
        parser = self._commands.add_parser(
            name,
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the example on one line
        )
        if run is not None:
            parser.set_defaults(run=run)
        if home:
            parser.add_argument(
                "--home",
                type=Path,
                default=Path(os.environ.get("HERDBOOK_HOME") or "home"),
                metavar="DIR",
                help="folder of the register (default: $HERDBOOK_HOME, else ./home)",
            )
        return parser


def _endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="the Hub (default: $HF_ENDPOINT, else the real Hub)"
    )


def _selection(parser: argparse.ArgumentParser) -> None:
    _endpoint(parser)
    parser.add_argument("--author", metavar="A", help="only repositories of this owner")
    parser.add_argument("--search", metavar="S", help="only repositories whose name contains this")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="only ids in FILE, one a line")
    parser.add_argument("--limit", type=_positive, metavar="N", help="at most so many repositories")


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget-bytes",
        type=_positive,
        default=BUDGET_BYTES,
        metavar="N",
        help="most bytes of weights to read of a model, headers apart (default: %(default)s)",
    )


def _parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts",
        default=os.environ.get("HERDBOOK_PARTS"),
        metavar="WHERE",
        help="where fingerprints are kept: a folder or an address such as s3://bucket/prefix "
        "(default: $HERDBOOK_PARTS, else in the home)",
    )


def _reading(parser: argparse.ArgumentParser) -> None:
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--stage", type=int, choices=(2, 3), default=3,
        help="2: vectors and a few row blocks, about 1 MB; 3: a row block of every matrix "
        "(default: 3)",
    )  # fmt: skip
    depth.add_argument(
        "--full", dest="stage", action="store_const", const=4,
        help="stream the whole weights through the sketches; what stage 3 reads is kept",
    )  # fmt: skip
    parser.add_argument(
        "--budget-requests", type=_positive, metavar="N",
        help="most ranges of weights to ask for of a model (default: no bound)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where sketches are computed (default: auto, a GPU where there is one)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-bytes", type=_positive, default=1 << 30, metavar="N",
        help="most memory that sketches use (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--limit", type=_positive, metavar="N", help="at most so many models")
    parser.add_argument(
        "--no-cache", action="store_true",
        help="read from the Hub what its client has downloaded before, too",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be read, without reading it"
    )


def _executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor", choices=("local", "ray"), default="local",
        help="where models are read: on this machine or on a Ray cluster (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_positive, metavar="N",
        help="workers at once (default: one here; on Ray as many as fit)",
    )  # fmt: skip
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="the Ray cluster, or auto (default: $RAY_ADDRESS, else one on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--num-gpus", type=_share, default=0.0, metavar="N",
        help="GPUs of each Ray worker, also a part of one (default: 0)",
    )  # fmt: skip


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1024:
        raise argparse.ArgumentTypeError("must lie between 0 and 1024")
    return number


def _ignore_claims(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ignore-claims", action="store_true", help="use the weights alone, nothing declared"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _port(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--port", type=_port_number, default=default, metavar="P", help=f"port (default: {default})"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be a positive number")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _interval(text: str) -> int:
    seconds = int(text)
    if not 60 <= seconds <= 366 * 86400:
        raise argparse.ArgumentTypeError("must be at least 60 seconds and at most a year")
    return seconds


def _port_number(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError("must lie between 1 and 65535")
    return number


def _add_stages(adder: _Adder) -> None:
    crawl = adder.command(
        "crawl",
        "read what a Hub says of its models",
        "herdbook crawl --author HuggingFaceTB --limit 50 --home smol",
        stages.crawl,
    )
    _selection(crawl)
    crawl.add_argument("--census", action="store_true", help="list the whole Hub again")
    crawl.add_argument(
        "--details", type=_count, metavar="N",
        help="read at most so many repositories' details (default: what settings.toml says)",
    )  # fmt: skip
    crawl.add_argument(
        "--dry-run", action="store_true", help="tell what would be read, without asking the Hub"
    )
    _json(crawl)
    parse = adder.command(
        "parse",
        "parse the archived answers of the Hub again, without the network",
        "herdbook parse --again --home smol",
        stages.parse,
    )
    parse.add_argument(
        "--again", action="store_true", required=True,
        help="build the crawl's tables anew from the archive",
    )  # fmt: skip
    _json(parse)
    fingerprint = adder.command(
        "fingerprint",
        "read a few megabytes of every model's weights",
        "herdbook fingerprint --budget-bytes 4000000 --home smol",
        stages.fingerprint,
    )
    _endpoint(fingerprint)
    _budget(fingerprint)
    _reading(fingerprint)
    _executor(fingerprint)
    _parts(fingerprint)
    _json(fingerprint)
    infer = adder.command(
        "infer",
        "infer who descends from whom",
        "herdbook infer --ignore-claims --home smol",
        stages.infer,
    )
    _ignore_claims(infer)
    _parts(infer)
    measure = adder.command(
        "measure",
        "estimate heritability and selection of every measured trait",
        "herdbook measure --home smol",
        stages.measure,
    )
    _ignore_claims(measure)
    publish = adder.command(
        "publish",
        "reconcile claims with findings and publish the database, here or on a Hub",
        "herdbook publish --home smol --to hf://datasets/OWNER/NAME",
        stages.publish,
    )
    _ignore_claims(publish)
    publish.add_argument(
        "--accept-losses", action="store_true",
        help="publish even if the last crawl lost a share of models or metadata",
    )  # fmt: skip
    publish.add_argument(
        "--to", metavar="ADDRESS",
        help="upload the publication to hf://datasets/OWNER/NAME; it is made anew only where a "
        "stage has run since",
    )  # fmt: skip
    publish.add_argument(
        "--revision", metavar="BRANCH", help="with --to: the branch (default: main)"
    )
    publish.add_argument(
        "--dry-run", action="store_true", help="with --to: tell what would be sent"
    )
    _endpoint(publish)
    _json(publish)
    run = adder.command(
        "run",
        "crawl, fingerprint, infer, measure and publish, doing only what is missing",
        "herdbook run --author HuggingFaceTB --limit 50 --home smol",
        stages.run,
    )
    _selection(run)
    _budget(run)
    _ignore_claims(run)
    _parts(run)
    demo = adder.command(
        "demo",
        "run everything on the pocket Hub and open the explorer",
        "herdbook demo --exit",
        stages.demo,
        home=False,
    )
    demo.add_argument("--exit", action="store_true", help="stop after printing what was found")
    demo.add_argument(
        "--home",
        type=Path,
        default=Path(os.environ.get("HERDBOOK_HOME") or "home/demo"),
        metavar="DIR",
        help="folder of the register (default: $HERDBOOK_HOME, else ./home/demo)",
    )
    _port(demo, 8501)
    hub = adder.command(
        "hub", "serve a folder of models as a Hub", "herdbook hub serve data/pocket --port 8080",
        None, home=False,
    )  # fmt: skip
    serve = _Adder(hub.add_subparsers(required=True, metavar="serve")).command(
        "serve",
        "serve DIR/owner/name/files… to any Hub client",
        "herdbook hub serve data/pocket --port 8080",
        stages.serve,
        home=False,
    )
    serve.add_argument("folder", type=Path, metavar="DIR")
    _port(serve, 8080)
    serve.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    serve.add_argument(
        "--vanish", action="store_true", help="hide what hub.json marks as vanishing"
    )
    serve.add_argument(
        "--datasets", type=Path, metavar="DIR",
        help="serve data sets, too, kept in DIR; the token in $HF_TOKEN may write them",
    )  # fmt: skip
    serve.add_argument(
        "--rate-limit-every", type=int, default=0, metavar="N",
        help="answer every N-th request with 429 and the Hub's rate headers (default: never)",
    )  # fmt: skip


def _add_watches(adder: _Adder) -> None:
    keep = adder.command(
        "watch",
        "re-read chosen models and tell what changed and who newly descends from them",
        "herdbook watch HuggingFaceTB/SmolLM2-135M --every 3600 --home smol",
        watch.watch,
    )
    keep.add_argument("models", nargs="+", metavar="MODEL", help="owner/name")
    _endpoint(keep)
    keep.add_argument(
        "--limit", type=_positive, default=200, metavar="N",
        help="enter at most so many new descendants (default: 200)",
    )  # fmt: skip
    often = keep.add_mutually_exclusive_group()
    often.add_argument(
        "--every", type=_interval, metavar="SECONDS", help="watch again and again (at least 60)"
    )
    often.add_argument("--once", action="store_true", help="watch once (the default)")
    _json(keep)
    webhook = adder.command(
        "webhook",
        "receive the Hub's webhooks into the queue of the next crawl",
        "herdbook webhook --port 8502 --home smol",
        watch.webhook,
    )
    _port(webhook, 8502)
    webhook.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    webhook.add_argument(
        "--secret-file", type=Path, metavar="FILE",
        help="holds the webhook's secret (default: $HERDBOOK_WEBHOOK_SECRET)",
    )  # fmt: skip


def _add_questions(adder: _Adder) -> None:
    show = adder.command(
        "show",
        "show all that is known of a model: claims, finding, edges, evidence",
        "herdbook show mergesmith/Tallow-linear-v1 --home home/demo",
        questions.show,
    )
    show.add_argument("model", metavar="MODEL", help="owner/name")
    _json(show)
    edges = adder.command(
        "edges",
        "print every edge of the published register",
        "herdbook edges --format csv --home home/demo > edges.csv",
        questions.edges,
    )
    edges.add_argument(
        "--format", choices=("table", "csv", "json", "parquet"), default="table",
        help="form (default: table)",
    )  # fmt: skip
    compare = adder.command(
        "compare",
        "compare the weights of two models, without a database",
        "herdbook compare HuggingFaceTB/SmolLM2-135M HuggingFaceTB/SmolLM2-135M-Instruct",
        questions.compare,
        home=False,
    )
    compare.add_argument("a", metavar="A", help="folder or owner/name")
    compare.add_argument("b", metavar="B", help="folder or owner/name")
    _endpoint(compare)
    _json(compare)
    evaluate = adder.command(
        "evaluate",
        "score the published register against known ancestry",
        "herdbook evaluate data/pocket/truth.json --home home/demo",
        questions.evaluate,
    )
    evaluate.add_argument("truth", type=Path, metavar="TRUTH.json")
    _json(evaluate)
    explore = adder.command(
        "explore", "open the explorer", "herdbook explore --port 8501 --home home/demo",
        questions.explore,
    )  # fmt: skip
    _port(explore, 8501)
    explore.add_argument(
        "--from", dest="source", metavar="ADDRESS",
        help="first fetch the register from hf://datasets/OWNER/NAME[@REVISION]",
    )  # fmt: skip
    _endpoint(explore)
    status = adder.command(
        "status",
        "count models, fingerprints and problems, and list the last runs",
        "herdbook status --home home/demo",
        questions.status,
    )
    _json(status)
