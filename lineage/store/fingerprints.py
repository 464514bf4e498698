"""The fingerprint store: one safetensors file per fingerprint, named by its digest.

The words lie there as bytes (``U8``) with everything else in the header's metadata, so that reading
one never runs code and never trusts a name from the Hub as a path.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lineage.errors import SchemaError
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["digest_of", "load_fingerprint", "save_fingerprint"]


def digest_of(repo_id: str, revision: str, scheme: str) -> str:
    """The name under which a model's fingerprint is stored: sha256 of what identifies it."""
    return hashlib.sha256("\0".join((repo_id, revision, scheme)).encode()).hexdigest()


def save_fingerprint(folder: Path, fingerprint: Fingerprint) -> str:
    """Write a fingerprint and return its digest; a kill leaves either the whole file or none."""
    digest = digest_of(fingerprint.repo_id, fingerprint.revision, fingerprint.scheme)
    samples = {
        str(index): {
            "key": [key.role, key.layer, key.expert],
            "name": sample.name,
            "dtype": sample.dtype,
            "shape": sample.shape,
            "rows": sample.rows,
            "transposed": sample.transposed,
        }
        for index, (key, sample) in enumerate(sorted(fingerprint.samples.items()))
    }
    header = {
        "repo_id": fingerprint.repo_id,
        "revision": fingerprint.revision,
        "scheme": fingerprint.scheme,
        "format": fingerprint.format,
        "file_digests": fingerprint.file_digests,
        "n_parameters": fingerprint.n_parameters,
        "architecture": fingerprint.architecture,
        "metadata": dict(fingerprint.metadata),
        "samples": samples,
    }
    words = {
        str(index): np.frombuffer(sample.words, np.uint8)
        for index, (_, sample) in enumerate(sorted(fingerprint.samples.items()))
    }
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{digest}.safetensors"
    partial = folder / f".{digest}.{os.getpid()}.partial"
    with partial.open("wb") as file:
        file.write(save(words, metadata={"herdbook": json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return digest


def load_fingerprint(folder: Path, digest: str) -> Fingerprint:
    """Read a fingerprint back.

    Raises
    ------
    SchemaError
        If the file is missing, damaged or not a fingerprint.
    """
    path = folder / f"{digest}.safetensors"
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["herdbook"])
        words = {name: stored.tobytes() for name, stored in load(data).items()}
        samples = {
            TensorKey(*described["key"]): Sample(
                described["name"],
                described["dtype"],
                tuple(described["shape"]),
                tuple(described["rows"]),
                words[index],
                described["transposed"],
            )
            for index, described in header["samples"].items()
        }
        return Fingerprint(
            header["repo_id"],
            header["revision"],
            header["scheme"],
            header["format"],
            samples,
            tuple(header["file_digests"]),
            header["n_parameters"],
            header["architecture"],
            header["metadata"],
        )
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise SchemaError(
            f"the stored fingerprint {path.name} cannot be read ({error}); "
            "delete it and run `herdbook fingerprint` again"
        ) from error
