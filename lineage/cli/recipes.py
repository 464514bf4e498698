"""Commands about merge recipes: recipe writes one, verify carries it out and compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from lineage.cli.output import print_json, print_table, print_text

__all__ = ["recipe", "register", "verify"]

_DIFFERS = 9
"""Exit code of a recipe that does not rebuild its model."""
_MAX_CHARACTERS = 1 << 20


def recipe(options: argparse.Namespace) -> int:
    """``herdbook recipe``."""
    from lineage.pipeline.recipe import recipe_of
    from lineage.store.home import Home

    found = recipe_of(Home(options.home), options.model, approximate=options.approximate)
    if options.json:
        print_json(found.to_dict())
    else:
        sys.stdout.write(found.yaml)  # ASCII, made line by line
    return 0


def verify(options: argparse.Namespace) -> int:
    """``herdbook verify``."""
    from lineage.pipeline.verify import plan_verification
    from lineage.pipeline.verify import verify as stage
    from lineage.pipeline.verify_plan import MAX_BYTES, VerifyOptions

    wanted = VerifyOptions(
        endpoint=options.endpoint,
        models=_folder(options.models),
        parents=_parents(options.parent or ()),
        seed=options.seed,
        scratch=_folder(options.scratch),
        max_bytes=options.max_bytes or MAX_BYTES,
    )
    text = _text(options.recipe)
    if options.dry_run:
        plan = plan_verification(text, options.model, wanted)
        if options.json:
            print_json(plan.to_dict())
            return 0
        print_table(("role", "model", "where", "weights"), plan.rows())
        for line in (plan.announcement, *(f"note: {note}" for note in plan.notes)):
            print_text(line)
        return 0
    found = stage(text, options.model, wanted)
    if options.json:
        print_json(found.to_dict())
    else:
        print_table(("role", "model", "where", "weights"), found.plan.rows())
        print_text()
        print_table(("layer", "words", "differ", "equal"), found.layer_rows())
        print_text()
        print_text(found.tensor_sentence)
        if rows := found.tensor_rows():
            print_table(("tensor", "how it differs"), rows)
        print_text()
        print_text(found.verdict)
    return 0 if found.match.is_exact else _DIFFERS


def _text(path: str) -> str:
    """The recipe, of a file or of standard input; no more than can be one."""
    from lineage.errors import NotFoundError, UsageError

    try:
        if path == "-":
            text = sys.stdin.read(_MAX_CHARACTERS + 1)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(_MAX_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text") from error
    except OSError as error:
        raise NotFoundError(f"no recipe {path}: {error.strerror}") from error
    if len(text) > _MAX_CHARACTERS:
        raise UsageError(f"{path} is too long for a recipe")
    return text


def _folder(path: Path | None) -> Path | None:
    from lineage.errors import NotFoundError

    if path is not None and not path.is_dir():
        raise NotFoundError(f"no folder {path}")
    return path


def _parents(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    from lineage.errors import UsageError

    parents: dict[str, Path] = {}
    for name, folder in named:
        if name in parents:
            raise UsageError(f"--parent {name} is given twice")
        parents[name] = folder
    return parents


def _named_folder(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError("must be NAME=FOLDER")
    return name, Path(folder)


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 32:
        raise argparse.ArgumentTypeError("must lie between 0 and 4294967295")
    return number


def register(
    command: Callable[..., argparse.ArgumentParser],
    endpoint_option: Callable[[argparse.ArgumentParser], None],
    json_option: Callable[[argparse.ArgumentParser], None],
    positive: Callable[[str], int],
) -> None:
    """Add the commands of this module by `command`, which adds one."""
    write = command(
        "recipe",
        "write the mergekit recipe of a model that its weights prove",
        "herdbook recipe mergesmith/Tallow-linear-v1 --home home/demo > recipe.yml",
        recipe,
    )
    write.add_argument("model", metavar="MODEL", help="owner/name")
    write.add_argument(
        "--approximate", action="store_true",
        help="where no recipe is proved, write one that only resembles the model, and says so",
    )  # fmt: skip
    json_option(write)
    check = command(
        "verify",
        "rebuild a model by a recipe with mergekit and compare every stored word",
        "herdbook verify recipe.yml mergesmith/Tallow-linear-v1 --models data/pocket",
        verify,
        home=False,
    )
    check.add_argument("recipe", metavar="RECIPE.yml", help="mergekit's YAML; -: standard input")
    check.add_argument("model", metavar="MODEL", help="the child: folder or owner/name")
    check.add_argument(
        "--models", type=Path, metavar="DIR",
        help="folder laid out as owner/name, looked at before the Hub",
    )  # fmt: skip
    check.add_argument(
        "--parent", type=_named_folder, action="append", metavar="NAME[@REV]=FOLDER",
        help="where a model that the recipe names lies; may be given again",
    )  # fmt: skip
    endpoint_option(check)
    check.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help="random seed of methods that draw (DARE, DELLA, Arcee)",
    )
    check.add_argument(
        "--scratch", type=Path, metavar="DIR",
        help="where the rebuilt model stands until it was compared (default: $TMPDIR, else /tmp)",
    )  # fmt: skip
    check.add_argument(
        "--max-bytes", type=positive, metavar="N",
        help="most bytes to write there (default: 100 GB)",
    )  # fmt: skip
    check.add_argument(
        "--dry-run", action="store_true", help="tell what would be read and written, only"
    )
    json_option(check)
