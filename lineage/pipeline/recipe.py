"""The recipe of one model, out of the published database."""

from __future__ import annotations

from lineage.export.recipes import Known, RecoveredRecipe, recover_recipe
from lineage.pipeline.show import require_detail
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.views import questions

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
        names = [model, *(edge.parent for edge in detail.parents)]
        if detail.finding is not None:
            names += [share.parent for share in detail.finding.parents]
            names += [detail.finding.base] if detail.finding.base else []
        publication = questions.publication(connection)
        known = Known(
            revisions=questions.revisions_read(connection, names),
            dtypes={
                card.repo_id: card.dtype
                for name in dict.fromkeys(names)
                if (card := questions.model_card(connection, name)) is not None
            },
            herdbook_version=publication.get("herdbook_version", ""),
            data_date=publication.get("data_date", ""),
        )
    finally:
        connection.close()
    return recover_recipe(detail, known, approximate=approximate)
