"""GPTQ and AWQ: integers in 32-bit words, with scales and zero points for groups of inputs."""

from __future__ import annotations

from collections.abc import Mapping

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.encodings import Encoding
from lineage.weights.facts import ModelFacts
from lineage.weights.stored import Stored
from lineage.weights.weight import MAIN, Part

__all__ = ["Named", "grouped", "matrix", "needed", "of_dtype"]

Named = Mapping[str, TensorEntry]
"""Tensors of one weight by the end of their name; the codes themselves under an empty one."""


def needed(named: Named, end: str) -> TensorEntry:
    """What stands beside the codes under `end`.

    Raises
    ------
    MalformedError
        If nothing does.
    """
    entry = named.get(end)
    if entry is None:
        raise MalformedError(f"its {end} is not there")
    return entry


def matrix(entry: TensorEntry) -> tuple[int, int]:
    """Rows and columns.

    Raises
    ------
    MalformedError
        If the tensor has not two dimensions, or is empty.
    """
    if len(entry.shape) != 2 or 0 in entry.shape:
        raise MalformedError(f"{entry.name} of shape {list(entry.shape)} is no matrix")
    return entry.shape[0], entry.shape[1]


def of_dtype(entry: TensorEntry, *dtypes: str) -> str:
    """The tensor's dtype, which is one of `dtypes`.

    Raises
    ------
    MalformedError
        If it is not.
    """
    if entry.dtype not in dtypes:
        raise MalformedError(f"{entry.name} is of {entry.dtype}, not of {' or '.join(dtypes)}")
    return entry.dtype


def grouped(named: Named, facts: ModelFacts, _: object) -> Stored:
    """The weight in GPTQ's or AWQ's words: the shapes say whose; the configuration agrees.

    Raises
    ------
    MalformedError
        If something is missing, or shapes and configuration contradict one another.
    """
    words, zeros, scales = (named[""], needed(named, "qzeros"), needed(named, "scales"))
    for entry in (words, zeros):
        of_dtype(entry, "I32")
    scale = of_dtype(scales, "F16", "BF16", "F32")
    (n_groups, n_columns), (zero_groups, zero_words) = matrix(scales), matrix(zeros)
    n_words, width = matrix(words)
    bits = 32 * zero_words // n_columns
    if zero_groups != n_groups or bits * n_columns != 32 * zero_words:
        raise MalformedError("its scales and its zero points are not on one grid")
    method = facts.quantisation.get("quant_method", "")
    stated = facts.quantisation.get("bits", facts.quantisation.get("w_bit", bits))
    if stated != bits:
        raise MalformedError(f"codes have {bits} bits, the configuration says {stated!r:.20}")
    if width == n_columns and method != "awq":
        return _gptq(named, facts, bits, n_words * 32 // bits, scale)
    if width == zero_words and method != "gptq" and bits == 4 and "g_idx" not in named:
        return _awq(named, facts, n_words, scale)
    raise MalformedError(f"shapes are those of neither GPTQ nor AWQ as {method!r:.20} means it")


def _group_size(facts: ModelFacts, n_rows: int, n_groups: int) -> int:
    size = facts.quantisation.get("group_size", facts.quantisation.get("q_group_size"))
    if size is None and not n_rows % n_groups:
        size = n_rows // n_groups
    if size == -1:
        size = n_rows
    if type(size) is not int or size < 1 or -(-n_rows // size) != n_groups:
        raise MalformedError(f"{n_rows} inputs in {n_groups} groups of {size!r:.20}")
    return size


def _zero_points(facts: ModelFacts) -> str:
    """Version of GPTQ's zero points."""
    method = facts.quantisation.get("quant_method", "gptq")
    packing = facts.quantisation.get("packing_format")
    if method in ("auto-round", "intel/auto-round") and packing != "auto_round:auto_gptq":
        raise MalformedError(f"zero points of {method} in {packing!r:.30} are not known")
    form = facts.quantisation.get("checkpoint_format", "gptq")
    versions = {"gptq": "v1", "gptq_v2": "v2"}
    if not isinstance(form, str) or form not in versions:
        raise MalformedError(f"a checkpoint format {form!r:.30} is not read")
    return versions[form]


def _gptq(named: Named, facts: ModelFacts, bits: int, n_rows: int, scale: str) -> Stored:
    if bits not in (2, 3, 4, 8) or named[""].shape[0] * 32 % bits:
        raise MalformedError(f"GPTQ with {bits} bits is not read")
    words, scales, zeros = named[""], named["scales"], named["qzeros"]
    n_groups, n_columns = scales.shape
    size = _group_size(facts, n_rows, n_groups)
    rows, n_words = (32, 3) if bits == 3 else (32 // bits, 1)
    order, index = _order(named, facts, n_rows)
    options = {
        "bits": str(bits), "group": str(size), "scale": scale, "zeros": _zero_points(facts),
        "order": order, "groups": str(n_groups),
    }  # fmt: skip
    if facts.quantisation.get("sym") is True:
        options["sym"] = "1"
    by_group = [("zeros", zeros), ("scales", scales)]
    parts = [
        Part(MAIN, "I32", words.path, words.start, words.stop, rows, 4 * n_words * n_columns),
        *(_per_group(name, entry, 0 if order == "given" else size) for name, entry in by_group),
        *index,
    ]
    encoding = Encoding("GPTQ", options)
    return Stored(words.name, str(encoding), (n_rows, n_columns), tuple(parts), columns_first=True)


def _order(named: Named, facts: ModelFacts, n_rows: int) -> tuple[str, list[Part]]:
    """How groups are told, and the part that tells them."""
    entry = named.get("g_idx")
    in_order = facts.quantisation.get("desc_act") is False
    if entry is None:
        if not in_order:
            raise MalformedError("the groups of its inputs are not there")
        return "none", []
    if entry.shape != (n_rows,):
        raise MalformedError(f"groups of {list(entry.shape)} inputs, codes of {n_rows}")
    of_dtype(entry, "I32")
    part = Part("groups", "I32", entry.path, entry.start, entry.stop, 1, 4)
    return "checked" if in_order else "given", [part]


def _per_group(name: str, entry: TensorEntry, rows: int) -> Part:
    unit = (entry.stop - entry.start) // entry.shape[0]
    return Part(name, entry.dtype, entry.path, entry.start, entry.stop, rows, unit if rows else 0)


def _awq(named: Named, facts: ModelFacts, n_rows: int, scale: str) -> Stored:
    version = facts.quantisation.get("version", "gemm")
    if str(version).lower() != "gemm":
        raise MalformedError(f"AWQ of version {version!r:.20} is not read")
    packing = facts.quantisation.get("packing_format", "auto_round:auto_awq")
    if packing != "auto_round:auto_awq":
        raise MalformedError(f"AWQ packed as {packing!r:.30} is not read")
    words, zeros, scales = named[""], named["qzeros"], named["scales"]
    n_groups, n_columns = scales.shape
    size = _group_size(facts, n_rows, n_groups)
    encoding = Encoding("AWQ", {"bits": "4", "group": str(size), "scale": scale})
    parts = (
        Part(MAIN, "I32", words.path, words.start, words.stop, 1, n_columns // 2),
        _per_group("zeros", zeros, size),
        _per_group("scales", scales, size),
    )
    return Stored(words.name, str(encoding), (n_rows, n_columns), parts, columns_first=True)
