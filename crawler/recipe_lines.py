"""Recipes that are meant as YAML and are none: read line by line, without indentation. Pure.

People copy recipes with half of the indentation, without the lines that hold others together, or
as a list with "weight: 0.4 / density: 0.5". What every line says is still plain.
"""

from __future__ import annotations

import re

__all__ = ["read_lines"]

_MAX_LINES = 5_000
_MAX_LINE_CHARACTERS = 2_000
_METHOD = re.compile(r"[A-Za-z][\w-]{0,49}")
_PAIR = re.compile(r"([ \t>]*)((?:-[ \t]+)*)([A-Za-z_]\w*)[ \t]*:(?:[ \t]+([^\n]*))?")
_BESIDE = re.compile(r"[ \t]/[ \t](?=[A-Za-z_]\w*:)")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#")
_OF_RECIPE = frozenset(
    {"merge_method", "base_model", "dtype", "out_dtype", "tokenizer_source", "name"}
)
_OF_MODEL = frozenset({"weight", "density", "gamma", "epsilon"})
_OF_ALL = frozenset({"t", "lambda", "normalize", "int8_mask", "rescale"})


def read_lines(text: str) -> dict[str, object] | None:
    """The document that `text` means, in the form that YAML would give; None when it is unclear.

    A ``model`` begins a use of a model; weight, density and layer range after it are its own until
    a line of the whole recipe comes. It is clear only with exactly one method and at least two
    uses. Values by filter are left out.
    """
    document: dict[str, object] = {}
    parameters: dict[str, object] = {}
    groups: list[list[dict[str, object]]] = []
    use: dict[str, object] | None = None
    for indent, dashes, key, value in _pairs(text):
        if key in _OF_RECIPE:
            if key == "merge_method" and key in document:
                return None
            use = None
            if value:
                document.setdefault(key, value)
        elif key == "model" and value:
            use = {"model": value, "parameters": {}}
            if not groups:
                groups.append([])
            groups[-1].append(use)
        elif key == "sources":
            groups.append([])
        elif key == "parameters" and not indent and not dashes:
            use = None
        elif key == "layer_range" and use is not None:
            use.setdefault(key, _listed(value))
        elif value and (key in _OF_ALL or (key in _OF_MODEL and use is None)):
            parameters.setdefault(key, _listed(value))
        elif value and key in _OF_MODEL and use is not None:
            own = use["parameters"]
            if isinstance(own, dict):
                own.setdefault(key, _listed(value))
    uses = [one for group in groups for one in group]
    if len(uses) < 2 or not _METHOD.fullmatch(str(document.get("merge_method", ""))):
        return None
    document["parameters"] = parameters
    if any("layer_range" in one for one in uses):
        if len(groups) == 1 and document["merge_method"] == "passthrough":
            groups = [[one] for one in uses]
        document["slices"] = [{"sources": group} for group in groups if group]
    else:
        document["models"] = uses
    return document


def _pairs(text: str) -> list[tuple[str, str, str, str]]:
    """Indentation, dashes, key and value of every line, and of every part of a line."""
    found = []
    for line in text.split("\n")[:_MAX_LINES]:
        if len(line) > _MAX_LINE_CHARACTERS:
            continue
        for part in _BESIDE.split(_COMMENT.split(line, maxsplit=1)[0].rstrip()):
            pair = _PAIR.fullmatch(part)
            if pair:
                value = (pair[4] or "").strip().strip("\"'")
                found.append((pair[1], pair[2], pair[3], value))
    return found


def _listed(value: str) -> object:
    """``[a, b]`` as a list, anything else as it is."""
    if value.startswith("[") and value.endswith("]"):
        return [item.strip() for item in value[1:-1].split(",")]
    return value
