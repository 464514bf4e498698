"""How a model's weights were quantised, in one word: from its configuration or its tags. Pure.

The word is ``<method>-<detail>``: the method as the configuration names it (``gptq``, ``awq``,
``bitsandbytes``, ``compressed-tensors``, ``modelopt``), the detail a number format (``nf4``,
``fp8``, ``nvfp4``) or the width of stored integers (``4bit``), ``mixed`` where layers differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crawler.words import clean_word

__all__ = ["QUANTISATION_TAGS", "quantisation_of", "quantisation_of_tags"]

_BIT_KEYS = ("bits", "w_bit", "nbits", "num_bits", "weight_bits")
_MAX_BITS = 64
_MAX_GROUPS = 100
_MAX_METHOD_CHARACTERS = 64
_BLOCK_FORMATS = ("nvfp4", "mxfp4", "mxfp8")
_METHOD_TAGS = {
    "aqlm": "aqlm", "auto-round": "auto-round", "awq": "awq", "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors", "eetq": "eetq", "exl2": "exl2", "exl3": "exl3",
    "gptq": "gptq", "higgs": "higgs", "hqq": "hqq", "modelopt": "modelopt", "quanto": "quanto",
    "quip": "quip", "spqr": "spqr", "torchao": "torchao", "vptq": "vptq",
}  # fmt: skip
_FORMAT_TAGS = {"fp8": "fp8", "mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
_WIDTH_TAGS = {
    **{f"{bits}-bit": f"{bits}bit" for bits in range(1, 9)},
    **{f"{bits}bit": f"{bits}bit" for bits in range(1, 9)},
}

QUANTISATION_TAGS = frozenset({*_METHOD_TAGS, *_FORMAT_TAGS, *_WIDTH_TAGS})
"""The tags that state a quantisation; ``gguf`` and ``mlx`` name containers, not methods."""


def quantisation_of(config: Mapping[str, object]) -> str | None:
    """What a model's configuration says of the quantisation of its weights.

    Read are ``quantization_config``, also inside ``text_config``, and ``quantization`` of
    ``hf_quant_config.json`` and of MLX.

    Examples
    --------
    >>> quantisation_of({"quantization_config": {"quant_method": "gptq", "bits": 4}})
    'gptq-4bit'
    >>> quantisation_of({"quantization": {"group_size": 64, "bits": 4}})
    '4bit'
    """
    stated = config.get("quantization_config") or config.get("quantization")
    if not stated:
        text = config.get("text_config")
        stated = text.get("quantization_config") if isinstance(text, dict) else None
    if not isinstance(stated, dict) or not stated:
        return None
    producer = stated.get("producer") or config.get("producer")
    produced_by = producer.get("name") if isinstance(producer, dict) else None
    method = _lower(stated.get("quant_method")) or _lower(produced_by)
    if method is None and (
        stated.get("load_in_4bit") is True or stated.get("load_in_8bit") is True
    ):
        method = "bitsandbytes"
    return _joined(method, _detail(stated))


def _lower(value: object) -> str | None:
    word = clean_word(value)
    return word[:_MAX_METHOD_CHARACTERS].lower() if word is not None else None


def _joined(method: str | None, detail: str | None) -> str | None:
    if method is None or detail is None or detail == method:
        return method or detail
    return f"{method}-{detail}"


def _detail(stated: Mapping[str, object]) -> str | None:
    algorithm = _lower(stated.get("quant_algo"))
    if algorithm is not None:
        return "mixed" if algorithm.startswith("mixed") else algorithm
    if stated.get("load_in_8bit") is True:
        return "8bit"
    four_bit_type = _lower(stated.get("bnb_4bit_quant_type"))
    if stated.get("load_in_4bit") is True:
        return four_bit_type or "4bit"
    groups = stated.get("config_groups")
    if isinstance(groups, dict):
        details = {_group_detail(group) for group in list(groups.values())[:_MAX_GROUPS]} - {None}
        if details:
            return details.pop() if len(details) == 1 else "mixed"
    return _width(stated)


def _width(stated: Mapping[str, object]) -> str | None:
    for key in _BIT_KEYS:
        bits = stated.get(key)
        if type(bits) is int and 0 < bits <= _MAX_BITS:
            return f"{bits}bit"
    return None


def _group_detail(group: object) -> str | None:
    """Number format of the weights of one group of layers (compressed-tensors, modelopt)."""
    if not isinstance(group, dict):
        return None
    packed = _lower(group.get("format")) or ""
    for block_format in _BLOCK_FORMATS:
        if packed.startswith(block_format):
            return block_format
    weights = group.get("weights")
    width = _width(weights) if isinstance(weights, dict) else None
    if width is not None and isinstance(weights, dict) and weights.get("type") == "float":
        return f"fp{width.removesuffix('bit')}"
    return width


def quantisation_of_tags(tags: Iterable[str], *, is_mlx: bool) -> str | None:
    """What a model's tags say: the first method, and the first format or else the first width.

    A width alone says the method only of MLX, which has one.

    >>> quantisation_of_tags(["4-bit", "awq"], is_mlx=False)
    'awq-4bit'
    """
    method = form = width = None
    for tag in tags:
        method = method or _METHOD_TAGS.get(tag)
        form = form or _FORMAT_TAGS.get(tag)
        width = width or _WIDTH_TAGS.get(tag)
    detail = form or width
    return _joined("mlx" if method is None and is_mlx and detail else method, detail)
