"""Does a recipe rebuild a model? The real mergekit carries it out, and every word is compared."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass

from lineage.errors import HerdbookError
from lineage.explorer.words import bytes_words, plural
from lineage.export.mergekit import RANDOM_METHODS
from lineage.infer.rebuilt import RebuiltMatch, share_words
from lineage.pipeline.located import ModelReader, locate_folder
from lineage.pipeline.progress import talk
from lineage.pipeline.rebuild import rebuild, require_mergekit, scratch_folder
from lineage.pipeline.verify_plan import VerifyOptions, VerifyPlan, opened
from lineage.pipeline.word_matches import match_words

__all__ = ["Verification", "plan_verification", "verify"]

_TOLD = 20
"""Tensors that are listed for people."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How much of the child came out of the recipe."""

    plan: VerifyPlan
    mergekit: str
    seed: int | None
    match: RebuiltMatch
    seconds: float

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        child, match = self.plan.models[0].name, self.match
        share = f"{match.n_equal:,} of {match.n_words:,} words are equal"
        if match.is_exact:
            return f"rebuilt: all {match.n_words:,} stored words of {child} are equal"
        if match.n_equal == match.n_words:
            return f"not rebuilt: {share}, but not every tensor of {child} is the same"
        percent = share_words(match.n_equal, match.n_words)
        return f"not rebuilt: {share} ({percent}) of {child}{self._proves_nothing}"

    @property
    def _proves_nothing(self) -> str:
        if self.plan.method not in RANDOM_METHODS or self.seed is not None:
            return ""
        return (
            f"; which proves nothing, since {self.plan.method} draws at random and no --seed was "
            "given"
        )

    def to_dict(self) -> dict[str, object]:
        """The verification as plain values, for JSON."""
        match = self.match
        return {
            "exact": match.is_exact,
            "share": match.share,
            "n_words": match.n_words,
            "n_equal": match.n_equal,
            "missing": list(match.missing),
            "extra": list(match.extra),
            "layers": [asdict(layer) for layer in match.layers()],
            "tensors": [{**asdict(one), "exact": one.is_exact} for one in match.tensors],
            "mergekit": self.mergekit,
            "seed": self.seed,
            "seconds": self.seconds,
            **self.plan.to_dict(),
        }

    @property
    def tensor_sentence(self) -> str:
        """How many tensors are the same."""
        n, n_other = len(self.match.tensors), len(self.match.worst())
        return f"tensors: {n - n_other:,} of {n:,} are equal in every word"

    def layer_rows(self) -> list[tuple[str, str, str, str]]:
        """Layer, words, those that differ, share of those that are equal."""
        return [
            (
                "outside" if layer.layer < 0 else str(layer.layer),
                f"{layer.n_words:,}",
                f"{layer.n_words - layer.n_equal:,}",
                share_words(layer.n_equal, layer.n_words),
            )
            for layer in self.match.layers()
        ]

    def tensor_rows(self) -> list[tuple[str, str]]:
        """The tensors that differ most, at most 20, and how; what is missing, what is extra."""
        missing, extra = self.match.missing, self.match.extra
        differing = [one for one in self.match.worst() if one.name not in missing]
        rows = [(one.name, one.words) for one in differing[:_TOLD]]
        if len(differing) > _TOLD:
            rows.append(("…", f"{len(differing) - _TOLD} more; --json lists all"))
        for names, how in ((missing, "missing in"), (extra, "only in")):
            if names:
                first = f"{names[0]}, …" if len(names) > 1 else names[0]
                rows.append((first, f"{plural(len(names), 'tensor')} {how} the rebuilt model"))
        return rows


def plan_verification(recipe: str, model: str, options: VerifyOptions) -> VerifyPlan:
    """What :func:`verify` would read and write: headers are read, and nothing is written.

    Parameters and errors are those of :func:`verify`.
    """
    with opened(recipe, model, options) as models:
        return models.plan


def verify(recipe: str, model: str, options: VerifyOptions) -> Verification:
    """Rebuild a model by a recipe and compare every stored word.

    Parameters
    ----------
    recipe
        The text of a mergekit configuration, from a stranger.
    model
        The child: a local folder, a model in ``options.models``, or a Hub id.

    Raises
    ------
    UsageError
        If the recipe is refused, folders of `options` are not those of its models, or more would
        be written than ``options.max_bytes``.
    NotFoundError
        If the child or a parent is nowhere.
    HerdbookError
        If mergekit is missing or fails, weights cannot be used, or the disk is too full.
    CrawlError
        If the Hub fails.
    """
    started = time.monotonic()
    with opened(recipe, model, options) as models:
        version = require_mergekit()
        plan = models.plan
        talk(plan.announcement)
        for note in plan.notes:
            talk(f"note: {note}")
        _require_room(plan)
        with scratch_folder(options.scratch) as scratch:
            out = rebuild(
                models.config,
                models.parents,
                scratch,
                seed=options.seed,
                output_bytes=plan.output_bytes,
            )
            with ModelReader(locate_folder(out)) as rebuilt:
                match = match_words(models.child, rebuilt)
    return Verification(plan, version, options.seed, match, time.monotonic() - started)


def _require_room(plan: VerifyPlan) -> None:
    free = shutil.disk_usage(plan.scratch).free
    if free < plan.scratch_bytes:
        raise HerdbookError(
            f"{plan.scratch} has {bytes_words(free)} left, and up to "
            f"{bytes_words(plan.scratch_bytes)} would be written; --scratch DIR names another place"
        )
