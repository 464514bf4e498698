"""The columns of a part, and stored models as rows of them.

``….models.parquet`` has one row a model, ``….words.parquet`` one a tensor. Text that Parquet cannot
hold (a lone surrogate: no Unicode text) is refused with a reason, not altered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crawler.errors import MalformedError
from lineage.store.byte_planes import interleave, planes_of, split
from lineage.store.stored_model import (
    Provenance,
    StoredModel,
    content_digest,
    rows_of_runs,
    runs_of_rows,
)
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

if TYPE_CHECKING:
    from lineage.weights.sketch import ModelSketch, TensorSketch

__all__ = [
    "MODEL_SCHEMA",
    "SKETCH_COLUMNS",
    "TENSOR_SCHEMA",
    "WORD_COLUMNS",
    "fingerprint_of",
    "model_row",
    "provenance_of",
    "sketch_of",
    "tensor_tables",
]

_MAX_WORDS_BYTES = 1 << 30
"""Of one tensor: a page of Parquet holds less than 2 GiB."""
_GROUP_BYTES = 64 << 20
"""Words after which a new row group begins."""

_KEY = [("role", pa.string()), ("layer", pa.int32()), ("expert", pa.int32())]
_IDENTITY = [("repo_id", pa.string()), ("revision", pa.string()), ("part", pa.string())]

MODEL_SCHEMA = pa.schema(
    [
        *_IDENTITY,
        ("scheme", pa.string()),
        ("stage", pa.int32()),
        ("digest", pa.string()),
        ("format", pa.string()),
        ("dtype", pa.string()),
        ("architecture", pa.string()),
        ("n_parameters", pa.int64()),
        ("file_digests", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.struct([("row", pa.int64()), ("text", pa.string())]))),
        ("metadata", pa.map_(pa.string(), pa.string())),
        ("first_group", pa.int32()),
        ("n_groups", pa.int32()),
        # of the sketch
        ("simhash", pa.binary()),
        ("projection", pa.binary()),
        ("norm_digest", pa.binary()),
        ("shape_digest", pa.binary()),
        ("norm_digests", pa.list_(pa.struct([*_KEY, ("digest", pa.binary())]))),
        # of the provenance
        ("made_at", pa.timestamp("us", "UTC")),
        ("herdbook_version", pa.string()),
        ("endpoint", pa.string()),
        ("bytes_read", pa.int64()),
        ("requests", pa.int64()),
        ("weight_bytes", pa.int64()),
        ("n_tensors", pa.int64()),
        ("n_unknown", pa.int64()),
        ("seconds", pa.float64()),
        ("budget_bytes", pa.int64()),
        ("given_up", pa.list_(pa.string())),
        ("device", pa.string()),
        ("run_id", pa.int64()),
    ]
)
"""One row a model; the row groups of its words are ``[first_group, first_group + n_groups)``."""

_PROVENANCE = (
    "made_at", "herdbook_version", "endpoint", "bytes_read", "requests", "weight_bytes",
    "n_tensors", "n_unknown", "seconds", "budget_bytes", "given_up", "device", "run_id",
)  # fmt: skip
_COUNTS = ("n", "n_zero", "n_nan", "n_inf")
_MOMENTS = ("mean", "std", "skewness", "kurtosis", "abs_max")
_VECTORS = ("row_norms", "singular_values", "tensor_projection")

TENSOR_SCHEMA = pa.schema(
    [
        *_IDENTITY,
        *_KEY,
        ("name", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("runs", pa.list_(pa.struct([("start", pa.int64()), ("length", pa.int64())]))),
        ("transposed", pa.bool_()),
        ("shift", pa.float64()),
        ("planes", pa.int32()),
        ("words", pa.large_binary()),
        ("extras", pa.map_(pa.string(), pa.large_binary())),
        ("tensor_digest", pa.binary()),
        *((name, pa.int64()) for name in _COUNTS),
        *((name, pa.float64()) for name in _MOMENTS),
        *((name, pa.binary()) for name in _VECTORS),
    ]
)
"""One row a tensor; `words` (NULL: only sketched) stand in byte planes where `planes` > 1."""

_KEY_COLUMNS = ["role", "layer", "expert"]
WORD_COLUMNS = [
    *_KEY_COLUMNS, "name", "dtype", "shape", "runs", "transposed", "shift", "planes", "words",
    "extras",
]  # fmt: skip
SKETCH_COLUMNS = [*_KEY_COLUMNS, "tensor_digest", *_COUNTS, *_MOMENTS, *_VECTORS]

Row = dict[str, Any]


# -- writing ------------------------------------------------------------------------------------


def model_row(model: StoredModel) -> Row:
    """The row of a model, but for its part and row groups.

    Raises
    ------
    MalformedError
        If the store cannot hold what the model, or one of its tensors, says.
    """
    made, sketch, provenance = model.fingerprint, model.sketch, model.provenance
    _table([row for row, _ in _described(model, "")], TENSOR_SCHEMA, made.repo_id)
    row: Row = {
        "repo_id": made.repo_id,
        "revision": made.revision,
        "scheme": made.scheme,
        "stage": made.stage,
        "digest": content_digest(made),
        "format": made.format,
        "dtype": made.dtype,
        "architecture": made.architecture,
        "n_parameters": made.n_parameters,
        "file_digests": list(made.file_digests),
        "tokens": [{"row": row, "text": text} for row, text in sorted(made.tokens.items())],
        "metadata": sorted(made.metadata.items()),
    }
    if sketch is not None:
        row |= {
            "simhash": sketch.simhash,
            "projection": _packed(sketch.projection),
            "norm_digest": sketch.norm_digest,
            "shape_digest": sketch.shape_digest,
            "norm_digests": [
                {**_key_row(key), "digest": digest}
                for key, digest in sorted(sketch.norm_digests.items())
            ],
        }
    row |= {name: getattr(provenance, name) for name in _PROVENANCE}
    row["given_up"] = list(provenance.given_up)
    _table([row], MODEL_SCHEMA, made.repo_id)
    return row


def tensor_tables(model: StoredModel, part: str) -> Iterator[pa.Table]:
    """The rows of a model's tensors in order of their keys, a row group at a time."""
    rows: list[Row] = []
    n_bytes = 0
    for row, sample in _described(model, part):
        if sample is not None:
            row["words"] = split(sample.words, row["planes"])
            row["extras"] = sorted(sample.extras.items())
            n_bytes += _n_bytes(sample)
        rows.append(row)
        if n_bytes >= _GROUP_BYTES:
            yield _table(rows, TENSOR_SCHEMA, model.fingerprint.repo_id)
            rows, n_bytes = [], 0
    if rows:
        yield _table(rows, TENSOR_SCHEMA, model.fingerprint.repo_id)


def _described(model: StoredModel, part: str) -> Iterator[tuple[Row, Sample | None]]:
    """Rows of a model's tensors without their words, and the samples that have these."""
    made = model.fingerprint
    sketches = model.sketch.tensors if model.sketch is not None else {}
    identity = {"repo_id": made.repo_id, "revision": made.revision, "part": part}
    for key in sorted({*made.samples, *sketches}):
        row = {**identity, **_key_row(key)}
        sample = made.samples.get(key)
        if sample is not None:
            row |= _sample_row(sample)
        if key in sketches:
            row |= _sketch_row(sketches[key])
        yield row, sample


def _sample_row(sample: Sample) -> Row:
    if _n_bytes(sample) > _MAX_WORDS_BYTES:
        raise MalformedError(
            f"{sample.name!r:.200}: a sample of {_n_bytes(sample)} bytes; a part holds "
            f"{_MAX_WORDS_BYTES} a tensor"
        )
    return {
        "name": sample.name,
        "dtype": sample.dtype,
        "shape": list(sample.shape),
        "runs": [{"start": a, "length": n} for a, n in runs_of_rows(sample.rows)],
        "transposed": sample.transposed,
        "shift": float(sample.shift),
        "planes": planes_of(sample.dtype, len(sample.words)),
        "extras": [(name, b"") for name in sorted(sample.extras)],
    }


def _n_bytes(sample: Sample) -> int:
    return len(sample.words) + sum(map(len, sample.extras.values()))


def _sketch_row(sketch: TensorSketch) -> Row:
    return {
        "tensor_digest": sketch.digest,
        **{name: int(getattr(sketch, name)) for name in _COUNTS},
        **{name: float(getattr(sketch, name)) for name in _MOMENTS},
        "row_norms": _packed(sketch.row_norms),
        "singular_values": _packed(sketch.singular_values),
        "tensor_projection": _packed(sketch.projection),
    }


def _key_row(key: TensorKey) -> Row:
    return {"role": key.role, "layer": key.layer, "expert": key.expert}


def _table(rows: Sequence[Row], schema: pa.Schema, repo_id: str) -> pa.Table:
    try:
        return pa.table(
            [pa.array([row.get(f.name) for row in rows], f.type) for f in schema], schema
        )
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise MalformedError(
            f"{repo_id}: the store cannot hold what it says: {str(error)[:200]}"
        ) from error


def _packed(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


# -- reading ------------------------------------------------------------------------------------


def fingerprint_of(model: Row, tensors: Sequence[Row]) -> Fingerprint:
    """A fingerprint from its rows.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the rows are not those of a fingerprint, or not as they were written.
    """
    samples = {
        _key(row): Sample(
            row["name"],
            row["dtype"],
            tuple(row["shape"]),
            rows_of_runs([(run["start"], run["length"]) for run in row["runs"]]),
            interleave(row["words"], row["planes"]),
            row["transposed"],
            dict(row["extras"]),
            row["shift"],
        )
        for row in tensors
        if row["words"] is not None
    }
    made = Fingerprint(
        model["repo_id"], model["revision"], model["scheme"], model["format"], samples,
        tuple(model["file_digests"]), model["n_parameters"], model["architecture"],
        dict(model["metadata"]), model["stage"],
        {token["row"]: token["text"] for token in model["tokens"]},
    )  # fmt: skip
    if content_digest(made) != model["digest"]:
        raise ValueError("its content does not match its digest")
    return made


def sketch_of(model: Row, tensors: Sequence[Row]) -> ModelSketch | None:
    """A sketch from its rows; None if none was made."""
    from lineage.weights.sketch import ModelSketch, TensorSketch

    if model["simhash"] is None:
        return None
    sketches = {
        _key(row): TensorSketch(
            row["tensor_digest"],
            *(row[name] for name in _COUNTS),
            *(row[name] for name in _MOMENTS),
            *(_unpacked(row[name]) for name in _VECTORS),
        )
        for row in tensors
        if row["tensor_digest"] is not None
    }
    return ModelSketch(
        model["simhash"],
        _unpacked(model["projection"]),
        model["norm_digest"],
        model["shape_digest"],
        sketches,
        {_key(row): row["digest"] for row in model["norm_digests"]},
    )


def provenance_of(model: Row) -> Provenance:
    """How a model's fingerprint was made."""
    return Provenance(
        **{name: model[name] for name in _PROVENANCE if name != "given_up"},
        given_up=tuple(model["given_up"]),
    )


def _key(row: Row) -> TensorKey:
    return TensorKey(row["role"], row["layer"], row["expert"])


def _unpacked(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4").astype(np.float32)
