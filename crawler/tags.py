"""What a repository's tags say of its parents. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crawler.references import Mention, mention_of

__all__ = ["tag_parents"]

_TAG = "base_model:"
_RELATIONS = frozenset({"finetune", "adapter", "quantized", "merge"})


def tag_parents(tags: Sequence[str], child: str) -> Iterator[tuple[Mention, str | None, str]]:
    """Parents in tags, with relation and tag; the plain tag counts only where no relation is given.

    Examples
    --------
    >>> [(m.repo_id, relation) for m, relation, _ in tag_parents(
    ...     ["en", "base_model:a/b", "base_model:finetune:a/b", "base_model:c/d"], "me/mine")]
    [('a/b', 'finetune'), ('c/d', None)]
    """
    tags = [tag for tag in tags if tag.startswith(_TAG)]
    if not tags:
        return
    related: dict[str, tuple[str, str]] = {}
    plain: dict[str, str] = {}
    for tag in tags:
        relation, colon, parent = tag.removeprefix(_TAG).partition(":")
        if colon and relation in _RELATIONS:
            related.setdefault(parent, (relation, tag))
        else:
            plain.setdefault(tag.removeprefix(_TAG), tag)
    for parent, (relation, tag) in related.items():
        mention = mention_of(parent, child)
        if mention is not None:
            yield mention, relation, tag
    for parent, tag in plain.items():
        if parent not in related:
            mention = mention_of(parent, child)
            if mention is not None:
                yield mention, None, tag
