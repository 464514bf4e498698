"""ONNX models as the ``onnx`` package writes them, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool", "complex64", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn",
    "float6_e3m2fn",
)  # fmt: skip


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """An array of every dtype that is read; a scalar, an empty one, a matrix."""
    import ml_dtypes

    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name in DTYPES:
        dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
        found[name] = np.abs(2 * rng.standard_normal((4, 8))).astype(dtype)
    found["scalar"] = np.array(2.5, np.float32)
    found["empty"] = np.zeros((0, 3), np.float32)
    found["matrix"] = rng.standard_normal((200, 300)).astype(np.float32)
    return found


def values(array: np.ndarray) -> np.ndarray:
    """Values as flat float32; a complex number is two."""
    if array.dtype == np.complex64:
        return array.reshape(-1).view(np.float32)
    return array.astype(np.float32).reshape(-1)


def model(initialisers: list[Any], n_nodes: int = 1) -> Any:
    """A model with these initialisers."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Identity", ["x"], [f"y{i}"], name=f"/n/{i}") for i in range(n_nodes)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y0"))
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], initializer=initialisers))


def plain_model(n_nodes: int = 1) -> Any:
    """A model of `arrays`."""
    from onnx import numpy_helper

    return model([numpy_helper.from_array(a, name) for name, a in arrays().items()], n_nodes)


def with_external_data(folder: Path, **options: Any) -> dict[str, bytes]:
    """The files of a model of `arrays` whose words lie outside it."""
    import onnx

    onnx.save_model(
        plain_model(), str(folder / "model.onnx"), save_as_external_data=True, size_threshold=1,
        **options,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
