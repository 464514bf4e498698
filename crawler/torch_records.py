"""What the calls in a PyTorch checkpoint describe: storages, views of them, dictionaries. Pure.

The only calls that mean something are those that PyTorch writes for a tensor, a parameter and an
ordered dictionary [1]_. Nothing is called: their arguments become plain records.

References
----------
.. [1] PyTorch, ``torch/_utils.py`` (``_rebuild_*``) and ``torch/serialization.py``
   (``persistent_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

__all__ = [
    "OPAQUE",
    "ORDERED",
    "Flattened",
    "Global",
    "StoredTensor",
    "called",
    "flatten",
    "storage_of",
]

_MAX_RANK = 64
_MAX_NUMBER = 1 << 62
_MAX_NAME_CHARACTERS = 4_096
_MAX_DEPTH = 5
_MAX_VISITED = 200_000
_MAX_REFUSED = 1_000

_DTYPES: Mapping[str, str] = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL", "torch.ComplexFloatStorage": "C64",
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16",
    "torch.bfloat16": "BF16", "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16",
    "torch.int8": "I8", "torch.uint8": "U8", "torch.uint16": "U16", "torch.uint32": "U32",
    "torch.uint64": "U64", "torch.bool": "BOOL", "torch.complex64": "C64",
    "torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ", "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e8m0fnu": "F8_E8M0", "torch.float4_e2m1fn_x2": "F4",
}  # fmt: skip
_UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
_TENSOR_V2 = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_TENSOR_V3 = "torch._utils._rebuild_tensor_v3"
_PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
ORDERED = "collections.OrderedDict"
# Dictionaries that only wrap the weights, and such that hold what training needs beside them.
_WRAPPERS = frozenset(
    ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network",
     "params", "params_ema", "weights", "generator")
)  # fmt: skip
_BESIDE = ("optim", "scheduler", "lr_sched", "scaler", "rng", "random", "loops", "callbacks")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a view of a storage.

    Attributes
    ----------
    key
        Name of the storage inside the archive.
    offset
        First word of the tensor in the storage, in words.
    strides
        Words from one index to the next, for every dimension.
    storage_words
        Words of the whole storage; bytes where the storage has no dtype (`is_untyped`).
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    key: str
    offset: int
    storage_words: int
    is_untyped: bool = False

    @property
    def is_contiguous(self) -> bool:
        """Whether the words stand in row-major order without gaps."""
        expected = 1
        if 0 in self.shape:
            return True
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length > 1 and stride != expected:
                return False
            expected *= length
        return True


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle would import."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: str
    key: str
    n_words: int


@dataclass(frozen=True, slots=True)
class _Refused:
    """A tensor that is there and cannot be placed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that nobody needs, and what it is."""

    what: str = "a value"


OPAQUE: Final = Opaque()


def called(function: object, arguments: object) -> object:
    """What calling one of PyTorch's functions would describe; everything else is opaque."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        return OPAQUE
    name = function.name
    if name == _FROM_TYPE and len(arguments) >= 3:  # a subclass: function, type, arguments, state
        function, _, arguments = arguments[:3]
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return OPAQUE
        name = function.name
    if name in _TENSOR_V2:
        return _tensor(arguments)
    if name == _TENSOR_V3:
        return _tensor_of_dtype(arguments)
    if name in _PARAMETER and arguments:
        return arguments[0]
    if name == ORDERED:
        return _ordered(arguments)
    if name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
        return _Refused(f"it is made by {name}, which is not read")
    return Opaque(f"made by {name}")


def _ordered(arguments: tuple[object, ...]) -> dict[object, object]:
    """An ordered dictionary; Python 2 gave its pairs as an argument."""
    found: dict[object, object] = {}
    pairs = arguments[0] if arguments else ()
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[0]) is str:
            found[pair[0]] = pair[1]
    return found


def storage_of(pid: object) -> object:
    """A persistent id of PyTorch: ``("storage", type, key, location, number of words)``."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        return OPAQUE
    _, kind, key, _, n_words = pid[:5]
    if not isinstance(kind, Global) or not isinstance(key, str) or not _is_number(n_words):
        return OPAQUE
    return _Storage(kind.name, key, n_words)


def _tensor(arguments: tuple[object, ...]) -> object:
    """``(storage, offset, shape, strides, …)``; the storage says the dtype."""
    storage = arguments[0] if arguments else None
    if not isinstance(storage, _Storage):
        return _Refused("its storage is not one of PyTorch's")
    dtype = _DTYPES.get(storage.kind)
    if dtype is None:
        return _Refused(f"words of {storage.kind} are not read")
    return _view(storage, arguments, dtype, is_untyped=False)


def _tensor_of_dtype(arguments: tuple[object, ...]) -> object:
    """``(storage, offset, shape, strides, needs gradient, hooks, dtype, …)``."""
    storage, dtype = (arguments[0], arguments[6]) if len(arguments) > 6 else (None, None)
    if not isinstance(storage, _Storage) or not isinstance(dtype, Global):
        return _Refused("its storage is not one of PyTorch's")
    if dtype.name not in _DTYPES or storage.kind not in _UNTYPED:
        return _Refused(f"words of {dtype.name} in {storage.kind} are not read")
    return _view(storage, arguments, _DTYPES[dtype.name], is_untyped=True)


def _view(
    storage: _Storage, arguments: tuple[object, ...], dtype: str, *, is_untyped: bool
) -> object:
    shape = _numbers(arguments[2]) if len(arguments) > 3 else None
    strides = _numbers(arguments[3]) if len(arguments) > 3 else None
    if shape is None or strides is None or len(shape) != len(strides):
        return _Refused("its shape or strides are not usable")
    offset = arguments[1]
    if not _is_number(offset):
        return _Refused("its offset is not usable")
    return StoredTensor(dtype, shape, strides, storage.key, offset, storage.n_words, is_untyped)


def _is_number(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MAX_NUMBER


def _numbers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, tuple) or len(value) > _MAX_RANK or not all(map(_is_number, value)):
        return None
    return value


@dataclass(slots=True)
class Flattened:
    """Tensors by name, in the pickle's order, and why others could not be placed."""

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    n_duplicates: int = 0
    n_visited: int = 0


def flatten(found: dict[object, object]) -> Flattened:
    """Make nested dictionaries into one.

    The names of wrappers (``state_dict``, ``model`` …) are dropped, those of others become a
    prefix; what belongs to optimisers and schedulers is left out.
    """
    flat = Flattened()
    _add(flat, found, "", 0)
    return flat


def _add(flat: Flattened, found: dict[object, object], prefix: str, depth: int) -> None:
    """Add the tensors of a dictionary under a prefix.

    A dictionary may hold itself, or another many times; depth and number of visits are bounded.
    """
    for key, value in found.items():
        flat.n_visited += 1
        if flat.n_visited > _MAX_VISITED:
            return
        name = f"{prefix}{key}"[:_MAX_NAME_CHARACTERS]
        if isinstance(value, StoredTensor):
            if name in flat.tensors:
                flat.n_duplicates += 1
            else:
                flat.tensors[name] = value
        elif isinstance(value, _Refused):
            _refuse(flat, name, value.reason)
        elif _is_beside(key):
            continue
        elif isinstance(value, dict):
            if depth < _MAX_DEPTH:
                _add(flat, value, prefix if key in _WRAPPERS else f"{name}.", depth + 1)
            else:
                _refuse(flat, name, "its dictionary is nested too deep")
        elif isinstance(value, list | tuple) and any(isinstance(v, StoredTensor) for v in value):
            _refuse(flat, name, "it is a list of tensors, which have no names")


def _refuse(flat: Flattened, name: str, reason: str) -> None:
    if len(flat.refused) < _MAX_REFUSED:
        flat.refused.append((name, reason))


def _is_beside(key: object) -> bool:
    """Whether a dictionary of this name holds what training needs beside the weights."""
    return any(word in str(key).lower() for word in _BESIDE)
