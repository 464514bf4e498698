"""The recipe of one model, out of the published database."""

from __future__ import annotations

from lineage.export.published_recipe import recipe_from
from lineage.export.recipes import RecoveredRecipe
from lineage.pipeline.show import require_detail
from lineage.store.home import Home
from lineage.store.publish import open_published

__all__ = ["recipe_of"]


def recipe_of(home: Home, model: str, *, approximate: bool = False) -> RecoveredRecipe:
    """The mergekit configuration that the weights of `model` prove.

    Parameters
    ----------
    approximate
        As of :func:`lineage.export.recipes.recover_recipe`.

    Raises
    ------
    NotFoundError
        If nothing was published, or the model is unknown; names similar ones.
    NoRecipeError
        If no recipe is proved; says what is known instead.
    """
    connection = open_published(home)
    try:
        detail = require_detail(connection, home, model)
        return recipe_from(connection, detail, approximate=approximate)
    finally:
        connection.close()
