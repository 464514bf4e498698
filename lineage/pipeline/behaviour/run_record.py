"""A run of ``herdbook behave`` in the register's provenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lineage.pipeline.behaviour.prompts import PromptSet
from lineage.store.home import Home
from lineage.store.runs import record_run

if TYPE_CHECKING:
    from lineage.pipeline.behaviour.behave import BehaveOptions

__all__ = ["recorded"]


@contextmanager
def recorded(
    home: Home, n_models: int, prompts: PromptSet, options: BehaveOptions
) -> Iterator[None]:
    """Enter a run; models that were named need no register, and without one nothing is entered.

    Raises
    ------
    HomeError
        If another command holds the register.
    """
    if not home.database.is_file():
        yield
        return
    settings = options.settings
    connection = home.open_working()
    try:
        with record_run(
            connection,
            "behave",
            {
                "characters": settings.characters,
                "temperature": settings.temperature,
                "samples": settings.samples,
                "seed": settings.seed,
                "device": options.device,
                "endpoint": None if options.endpoint is None else options.endpoint.shown,
                "limit": options.limit,
                "n_resamples": options.n_resamples,
            },
            {"models": n_models, "prompts": prompts.digest},
        ):
            yield
    finally:
        connection.close()
