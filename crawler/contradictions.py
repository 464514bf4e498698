"""Claims that cannot all be true, told as doubts. Pure: values in, values out.

A doubt takes nothing away: the claim stands, and whoever reconciles it with the weights is told.
Ids are compared without regard to small and capital letters, as the Hub does.

References
----------
.. [1] D. J. Pearce, "A space-efficient algorithm for finding strongly connected components",
   Information Processing Letters 116 (2016) 47-52; scipy's implementation, without recursion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from crawler.quantisation import quantisation_of_tags

__all__ = [
    "HUB_FLOOR",
    "ClaimDoubt",
    "DoubtCode",
    "RepoFacts",
    "cyclic_components",
    "doubts_of_claims",
    "doubts_of_cycles",
    "repo_facts",
]

HUB_FLOOR = datetime(2022, 3, 2, 23, 29, 4, tzinfo=UTC)
"""The Hub gives this creation date to everything older: it says nothing."""

_MAX_MEMBERS_TOLD = 20
_FULL_PRECISION = frozenset({"F64", "F32", "F16", "BF16"})
# Formats that only a conversion makes: nobody trains or merges in them.
_CONVERTED = ("gguf", "gptq", "awq", "exl2", "exl3")
_ADAPTER_WORDS = ("adapter", "lora")
_ADAPTER_TAGS = frozenset({"adapter", "diffusers", "ia3", "lora", "peft"})
_MIXED_FORMATS = frozenset({"gguf", "mlx", "onnx", "openvino", "quantized"})

DoubtCode: TypeAlias = str
"""One of: self_parent, cycle, older_than_parent, quantized_full_precision, trained_but_converted,
adapter_without_files."""


@dataclass(frozen=True, slots=True)
class ClaimDoubt:
    """Why the claim that `parent` is a parent of `child` can hardly be true as it stands."""

    child: str
    parent: str
    code: DoubtCode
    reason: str


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """What speaks for or against a claim about a repository; None means "not known".

    Parameters
    ----------
    created_at
        When the repository was created.
    dtype
        Of most stored values, in the words of safetensors: ``BF16``, ``I32``.
    converted_to
        The only format of its weights where that is one which conversions make (``gguf``,
        ``gptq``, ``awq`` …); None otherwise.
    is_quantised
        Whether anything says that its weights, or some of them, are quantised.
    has_adapter
        Whether there are files of an adapter.
    """

    created_at: datetime | None = None
    dtype: str | None = None
    converted_to: str | None = None
    is_quantised: bool = False
    has_adapter: bool | None = None


def repo_facts(
    *,
    created_at: datetime | None = None,
    tags: Collection[str] = (),
    library: str | None = None,
    dtype: str | None = None,
    quantisation: str | None = None,
    paths: Collection[str] | None = None,
) -> RepoFacts:
    """What a listing's record and the names of the files say, for :func:`doubts_of_claims`.

    Parameters
    ----------
    created_at, tags, library, dtype
        As the listing gives them.
    quantisation
        The word of :class:`crawler.traits.Facts`; read from the tags where it is None.
    paths
        The names of all files; None where they are not known.

    Examples
    --------
    >>> repo_facts(tags=["gguf", "license:mit"]).converted_to
    'gguf'
    >>> repo_facts(dtype="BF16", tags=["safetensors", "gguf"]).converted_to is None
    True
    """
    known = {tag.lower() for tag in tags}
    if library is not None:
        known.add(library.lower())
    suffixes = {path.rpartition(".")[2].lower() for path in paths or ()}
    quantised = quantisation or quantisation_of_tags(sorted(known), is_mlx="mlx" in known)
    method = (quantised or "").partition("-")[0].lower()
    has_gguf = "gguf" in known or "gguf" in suffixes
    has_others = dtype is not None or bool(
        ({"safetensors", "bin", "pt", "pth"} & suffixes) or "safetensors" in known
    )
    converted = None
    if method in _CONVERTED and method != "gguf":
        converted = method
    elif has_gguf and not has_others:
        converted = "gguf"
    has_adapter = None
    if paths is not None:
        has_adapter = bool(known & _ADAPTER_TAGS) or any(
            word in path.lower() for path in paths for word in _ADAPTER_WORDS
        )
    return RepoFacts(
        created_at,
        dtype.upper() if dtype is not None else None,
        converted,
        quantised is not None or bool(known & _MIXED_FORMATS) or has_gguf or "onnx" in suffixes,
        has_adapter,
    )


def doubts_of_claims(
    claims: Iterable[tuple[str, str, str | None]], facts: Mapping[str, RepoFacts]
) -> Iterator[ClaimDoubt]:
    """What contradicts single claims: the model itself, dates, and the kind of its weights.

    Parameters
    ----------
    claims
        Child, parent and relation (None: unsaid).
    facts
        By id in small letters; what is missing there is not doubted.

    Yields
    ------
    ClaimDoubt
        In the order of the claims; of a self-parent nothing else is said. ``older_than_parent``
        compares creation dates after `HUB_FLOOR` only; a repository that was made public or
        uploaded again later is younger than its weights, so it is a doubt and no proof.

    Examples
    --------
    >>> [doubt.code for doubt in doubts_of_claims([("a/B", "A/b", None)], {})]
    ['self_parent']
    """
    nothing = RepoFacts()
    for child, parent, relation in claims:
        if child.lower() == parent.lower():
            yield ClaimDoubt(child, parent, "self_parent", f"{child} claims to be its own parent")
            continue
        own = facts.get(child.lower(), nothing)
        older = _older(child, own, parent, facts.get(parent.lower(), nothing))
        if older is not None:
            yield older
        kind = _of_kind(child, parent, relation, own)
        if kind is not None:
            yield kind


def _older(child: str, own: RepoFacts, parent: str, its: RepoFacts) -> ClaimDoubt | None:
    born, before = own.created_at, its.created_at
    if born is None or before is None or born >= before or born <= HUB_FLOOR:
        return None
    reason = (
        f"{child} was created on {born:%Y-%m-%d}, {(before - born).total_seconds() / 86400:.1f} "
        f"days before {parent}"
    )
    return ClaimDoubt(child, parent, "older_than_parent", reason)


def _of_kind(child: str, parent: str, relation: str | None, own: RepoFacts) -> ClaimDoubt | None:
    if relation == "quantized" and own.dtype in _FULL_PRECISION and not own.is_quantised:
        reason = f"{child} is said to be quantized, but its weights are {own.dtype}"
        return ClaimDoubt(child, parent, "quantized_full_precision", reason)
    if relation in ("finetune", "merge") and own.converted_to is not None:
        reason = (
            f"{child} is said to be a {relation}, but its weights are {own.converted_to.upper()} "
            "only, which conversion makes"
        )
        return ClaimDoubt(child, parent, "trained_but_converted", reason)
    if relation == "adapter" and own.has_adapter is False:
        reason = f"{child} is said to be an adapter, but none of its files is one"
        return ClaimDoubt(child, parent, "adapter_without_files", reason)
    return None


def doubts_of_cycles(edges: Iterable[tuple[str, str]]) -> tuple[ClaimDoubt, ...]:
    """Models that claim to be each other's ancestors: one doubt for each knot of cycles.

    Parameters
    ----------
    edges
        Child and parent; self-parents are passed over.

    Returns
    -------
    tuple of ClaimDoubt
        One for each strongly connected component of several models; `child` is its first member
        in order of letters, `parent` a parent of it inside the component, and the reason names the
        members, at most twenty.

    Examples
    --------
    >>> [doubt.reason for doubt in doubts_of_cycles([("a/x", "a/y"), ("a/y", "A/X")])]
    ['2 models claim to be ancestors of each other: a/x, a/y']
    """
    numbers: dict[str, int] = {}
    names: list[str] = []
    children: list[int] = []
    parents: list[int] = []
    for edge in edges:
        for name, ends in zip(edge, (children, parents), strict=True):
            number = numbers.setdefault(name.lower(), len(names))
            if number == len(names):
                names.append(name)
            ends.append(number)
    child, parent = np.asarray(children, np.int64), np.asarray(parents, np.int64)
    components = cyclic_components(child, parent)
    component = np.full(len(names), -1, np.int64)
    for n, members in enumerate(components):
        component[members] = n
    inside = (component[child] >= 0) & (component[child] == component[parent]) & (child != parent)
    a_parent = dict(zip(child[inside].tolist(), parent[inside].tolist(), strict=True))
    found = []
    for members in components:
        told = sorted((names[member] for member in members.tolist()), key=str.lower)
        more = f" and {len(told) - _MAX_MEMBERS_TOLD} more" if len(told) > _MAX_MEMBERS_TOLD else ""
        reason = (
            f"{len(told)} models claim to be ancestors of each other: "
            f"{', '.join(told[:_MAX_MEMBERS_TOLD])}{more}"
        )
        found.append(
            ClaimDoubt(told[0], names[a_parent[numbers[told[0].lower()]]], "cycle", reason)
        )
    return tuple(sorted(found, key=lambda doubt: doubt.child.lower()))


def cyclic_components(
    children: npt.NDArray[np.int64], parents: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], ...]:
    """The strongly connected components of more than one node, each as its sorted nodes.

    Parameters
    ----------
    children, parents
        Ends of every edge, numbers from 0; self-loops do not count. Three million edges take
        about a second [1]_.

    Examples
    --------
    >>> [found.tolist() for found in cyclic_components(np.array([0, 1, 2]), np.array([1, 0, 0]))]
    [[0, 1]]
    """
    if children.size == 0:
        return ()
    n_nodes = int(max(children.max(), parents.max())) + 1
    ones = np.ones(children.size, np.int32)  # of an edge that stands twice the sum is taken
    graph = csr_array((ones, (children, parents)), shape=(n_nodes, n_nodes))
    n_components, labels = connected_components(graph, directed=True, connection="strong")
    if n_components == n_nodes:
        return ()
    sizes = np.bincount(labels, minlength=n_components)
    nodes = np.flatnonzero(sizes[labels] > 1)
    order = nodes[np.argsort(labels[nodes], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return tuple(np.split(order, starts))
