"""Known ancestry: what ``truth.json`` says, read strictly. Pure: text in, values out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lineage.errors import UsageError
from lineage.model import Kind

__all__ = ["TrueModel", "Truth", "read_truth"]

_COPIES = frozenset({Kind.DUPLICATE, Kind.CAST})


@dataclass(frozen=True, slots=True)
class TrueModel:
    """How one model was really made.

    `has_shares` is False where one share per parent does not exist (a SLERP whose interpolation
    changes over the layers). `same_init` names the model of the same initialisation, if any.
    `parents` are those that can be found; `made_from` also names the unpublished ones, where some
    were.
    """

    model: str
    kind: Kind
    parents: tuple[tuple[str, float | None], ...] = ()
    method: str | None = None
    base: str | None = None
    layer_map: tuple[tuple[str, int], ...] = ()
    rank: int | None = None
    same_init: str | None = None
    has_shares: bool = True
    made_from: tuple[str, ...] = ()

    @property
    def parent_names(self) -> frozenset[str]:
        """The parents' names."""
        return frozenset(name for name, _ in self.parents)


@dataclass(frozen=True)
class Truth:
    """All models of a truth file, by name.

    `unpublished` models were made, and have descendants in `models`, but nobody can find them:
    they count as ancestors and are never scored.
    """

    models: Mapping[str, TrueModel]
    unpublished: Mapping[str, TrueModel] = field(default_factory=dict)

    def ancestors(self, model: str) -> frozenset[str]:
        """`model` and everything its weights come from, bases of merges included."""
        return self._lineages[model]

    @cached_property
    def _lineages(self) -> Mapping[str, frozenset[str]]:
        lineages: dict[str, frozenset[str]] = {}
        for model in self.models:
            seen = {model}
            waiting = [model]
            while waiting:
                name = waiting.pop()
                known = self.models.get(name) or self.unpublished.get(name)
                if known is None:
                    continue
                above = set(known.parent_names) | set(known.made_from)
                above |= {known.base} if known.base else set()
                waiting += above - seen
                seen |= above
            lineages[model] = frozenset(seen)
        return lineages

    @cached_property
    def _init_of(self) -> Mapping[str, str]:
        """For models that share an initialisation, the same name for all of them."""
        first: dict[str, str] = {}
        for name, model in self.models.items():
            if model.same_init is not None:
                joined = {name, model.same_init}
                groups = {first[one] for one in joined if one in first}
                joined |= {one for one, group in first.items() if group in groups}
                first.update(dict.fromkeys(joined, min(joined)))
        return first

    def are_related(self, a: str, b: str) -> bool:
        """Whether one descends from the other or both from a third."""
        return not self.ancestors(a).isdisjoint(self.ancestors(b))

    def share_initialisation(self, a: str, b: str) -> bool:
        """Whether ancestors of both were trained apart from one initialisation."""
        first = {self._init_of[name] for name in self.ancestors(a) if name in self._init_of}
        return any(self._init_of.get(name) in first for name in self.ancestors(b))

    def original(self, model: str) -> str:
        """What `model` is a byte-wise or cast copy of, itself if it is none."""
        seen = {model}
        while True:
            known = self.models.get(model)
            if known is None or known.kind not in _COPIES or len(known.parents) != 1:
                return model
            model = known.parents[0][0]
            if model in seen:
                return model
            seen.add(model)


def read_truth(text: str) -> Truth:
    """Read a truth file.

    Raises
    ------
    UsageError
        If it is not of the documented form; says which model.
    """
    try:
        told = json.loads(text)
        models, unpublished = told["models"].items(), told.get("unpublished", {}).items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError('the truth file needs the form {"models": {"owner/name": …}}') from error
    return Truth(_read_models(models), _read_models(unpublished))


def _read_models(entries: Iterable[tuple[str, Any]]) -> dict[str, TrueModel]:
    found = {}
    for name, fields in entries:
        try:
            found[name] = TrueModel(
                name,
                Kind(fields["kind"]),
                tuple(
                    (str(one["id"]), None if one.get("weight") is None else float(one["weight"]))
                    for one in fields["parents"]
                ),
                fields.get("method"),
                fields.get("base"),
                tuple((str(parent), int(layer)) for parent, layer in fields.get("layer_map") or ()),
                None if fields.get("rank") is None else int(fields["rank"]),
                fields.get("same_init_as"),
                not isinstance(fields.get("t"), list)
                and not fields.keys() & {"varying_weights", "own_shares"},
                tuple(str(one["id"]) for one in fields.get("true_parents") or ()),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"the truth file cannot be read at {name}: {error}") from error
    return found
