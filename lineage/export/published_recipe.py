"""The recipe of one model, out of an open publication."""

from __future__ import annotations

import duckdb

from lineage.export.recipes import Known, RecoveredRecipe, recover_recipe
from lineage.views import questions
from lineage.views.rows import ModelDetail

__all__ = ["recipe_from"]


def recipe_from(
    cursor: duckdb.DuckDBPyConnection, detail: ModelDetail, *, approximate: bool = False
) -> RecoveredRecipe:
    """The mergekit configuration that the weights of a model prove.

    Parameters
    ----------
    detail
        The model, of the same publication.
    approximate
        As of :func:`lineage.export.recipes.recover_recipe`.

    Raises
    ------
    NoRecipeError
        If no recipe is proved; says what is known instead.
    """
    names = [detail.card.repo_id, *(edge.parent for edge in detail.parents)]
    if detail.finding is not None:
        names += [share.parent for share in detail.finding.parents]
        names += [detail.finding.base] if detail.finding.base else []
    names = list(dict.fromkeys(names))
    publication = questions.publication(cursor)
    known = Known(
        revisions=questions.revisions_read(cursor, names),
        dtypes={
            card.repo_id: card.dtype
            for name in names
            if (card := questions.model_card(cursor, name)) is not None
        },
        herdbook_version=publication.get("herdbook_version", ""),
        data_date=publication.get("data_date", ""),
    )
    return recover_recipe(detail, known, approximate=approximate)
