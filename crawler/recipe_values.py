"""What a merge recipe says, as frozen values. Pure.

::

    MergeRecipe
    ├── parents     RecipeParent: model, LoRA, share, parameters, layers
    ├── base        Mention
    ├── slices      OutputSlice: which layers of which models lie on each other, bottom first
    │   └── sources SliceSource: model, LoRA, layers, parameters
    └── parameters  Parameter: a name and its Gradients
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crawler.references import Mention

__all__ = [
    "Gradient",
    "Layers",
    "MergeRecipe",
    "OutputSlice",
    "Parameter",
    "RecipeParent",
    "SliceSource",
    "chained",
    "gradients_of",
    "recipe_document",
]

Layers = tuple[int, int]
"""Layers of a model, half open and counted from 0."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """What a parameter is for the tensors whose name contains `filter` (None: for all).

    One value holds for every layer; several are spread evenly from the first layer of the slice
    to the last, with straight lines between them. A switch (``normalize: true``) is a bool.
    """

    values: tuple[float | bool, ...]
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named parameter; for each tensor the first gradient whose filter fits it counts."""

    name: str
    gradients: tuple[Gradient, ...]


def gradients_of(parameters: Iterable[Parameter], name: str) -> tuple[Gradient, ...]:
    """The gradients of the parameter called `name`; empty where it is unstated."""
    return next((stated.gradients for stated in parameters if stated.name == name), ())


def chained(inner: tuple[Gradient, ...], outer: tuple[Gradient, ...]) -> tuple[Gradient, ...]:
    """What counts where two scopes state a parameter: the outer one where no inner filter fits."""
    if any(gradient.filter is None for gradient in inner):
        return inner
    return inner + outer


@dataclass(frozen=True, slots=True)
class RecipeParent:
    """A model that a recipe merges.

    Parameters
    ----------
    mention
        The model, without an added LoRA.
    weight
        Its share as one number, None where it is unstated or varies between tensors; the plain
        mean of a gradient's values. For methods that average (linear, slerp) the shares sum to
        one where all are known, unless the recipe says ``normalize: false``; for a stack of
        layers the share is that of the layers; for all others, and where some are unknown, the
        number is the weight that the recipe states.
    is_base
        Whether it is a base that is not merged itself, of which task vectors are taken.
    lora
        The adapter that is merged into the model first (``model+lora``).
    stage
        The stage of the same file or card through which the model comes in; its weight,
        parameters and layers are then those inside that stage, and left out here.
    parameters
        What the recipe states for this model alone; of weight, density, gamma and epsilon also
        what it states for all, after what it states for this model. What differs between several
        uses of the model is left out: see `MergeRecipe.slices`.
    layers
        The ranges of its layers that are used, each once; empty for the whole model.
    """

    mention: Mention
    weight: float | None = None
    is_base: bool = False
    lora: Mention | None = None
    stage: str | None = None
    parameters: tuple[Parameter, ...] = ()
    layers: tuple[Layers, ...] = ()

    @property
    def weights(self) -> tuple[Gradient, ...]:
        """The stated weight, by filter; empty where there is none."""
        return gradients_of(self.parameters, "weight")

    @property
    def densities(self) -> tuple[Gradient, ...]:
        """The stated density, by filter; empty where there is none."""
        return gradients_of(self.parameters, "density")


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Layers of one model in a slice; `layers` None where the recipe gives no range.

    The model is named as written: a stage stays the stage, unresolved. `parameters` are those
    that the recipe states for this source alone.
    """

    mention: Mention
    layers: Layers | None = None
    lora: Mention | None = None
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputSlice:
    """Layers of the child: the sources that are merged there, and the slice's own parameters.

    `module` is the part of the model (``text_decoder``) that a recipe with ``modules`` builds.
    """

    sources: tuple[SliceSource, ...]
    parameters: tuple[Parameter, ...] = ()
    module: str | None = None


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """One merge. Two recipes are equal when they say the same under any name and in any words.

    Parameters
    ----------
    method
        In small letters: ``linear``, ``dare_ties`` …; ``moe`` for a mixture of experts.
    parents
        Every model with the base last where it is not merged itself. A stage of the same file or
        card is replaced by its parents.
    base
        The ``base_model`` as written, without an added LoRA; None where there is none.
    dtype, out_dtype, tokenizer_source
        As written.
    parameters
        Of the whole recipe: ``t`` of slerp, ``normalize``, ``int8_mask`` and others.
    slices
        From the first layer of the child to the last; empty for a recipe with ``models``.
    name
        How other recipes of the same file or card refer to this one, None where none does.
    text
        What it was read from, cut to a sane length.
    """

    method: str
    parents: tuple[RecipeParent, ...]
    base: Mention | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    parameters: tuple[Parameter, ...] = ()
    slices: tuple[OutputSlice, ...] = ()
    name: str | None = field(default=None, compare=False)
    text: str = field(default="", compare=False)

    @property
    def t(self) -> tuple[Gradient, ...]:
        """Slerp's ``t``, of the only slice first; empty where it is unstated."""
        inner = gradients_of(self.slices[0].parameters, "t") if len(self.slices) == 1 else ()
        return chained(inner, gradients_of(self.parameters, "t"))


def recipe_document(recipe: MergeRecipe) -> dict[str, object]:
    """`recipe` as plain lists, mappings, text, finite numbers and None, for storage as JSON.

    Every field of the recipe is there; mentions without their context, parameters as a mapping
    from name to a list of ``{"filter": …, "values": […]}``, of which the first that fits counts.

    Examples
    --------
    >>> parent = RecipeParent(Mention("a/x", "a/x", "a/x"), weight=1.0)
    >>> recipe_document(MergeRecipe("linear", (parent,)))["parents"][0]["model"]
    {'repo_id': 'a/x', 'words': 'a/x'}
    """
    return {
        "method": recipe.method,
        "name": recipe.name,
        "parents": [
            {
                "model": _named(parent.mention),
                "lora": _named(parent.lora),
                "weight": parent.weight,
                "is_base": parent.is_base,
                "stage": parent.stage,
                "parameters": _settings(parent.parameters),
                "layers": [list(span) for span in parent.layers],
            }
            for parent in recipe.parents
        ],
        "base": _named(recipe.base),
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "tokenizer_source": recipe.tokenizer_source,
        "parameters": _settings(recipe.parameters),
        "slices": [
            {
                "module": part.module,
                "parameters": _settings(part.parameters),
                "sources": [
                    {
                        "model": _named(source.mention),
                        "lora": _named(source.lora),
                        "layers": None if source.layers is None else list(source.layers),
                        "parameters": _settings(source.parameters),
                    }
                    for source in part.sources
                ],
            }
            for part in recipe.slices
        ],
        "text": recipe.text,
    }


def _named(mention: Mention | None) -> dict[str, str | None] | None:
    return None if mention is None else {"repo_id": mention.repo_id, "words": mention.words}


def _settings(parameters: Iterable[Parameter]) -> dict[str, object]:
    return {
        stated.name: [
            {"filter": gradient.filter, "values": list(gradient.values)}
            for gradient in stated.gradients
        ]
        for stated in parameters
    }
