"""From files of the real libraries to values: headers and plain or block decoding together."""

from __future__ import annotations

import numpy as np
import pytest

from crawler.headers import read_headers
from crawler.records import FileEntry
from lineage.weights.encodings.ggml import decode_ggml, is_ggml
from lineage.weights.encodings.plain import decode_plain
from lineage.weights.facts import facts_of


def read(files: dict[str, bytes]):
    entries = [FileEntry(path, len(data)) for path, data in files.items()]
    return read_headers(lambda path, start, stop: files[path][start:stop], entries)


def decoded(files: dict[str, bytes], entry) -> np.ndarray:
    data = files[entry.path][entry.start : entry.stop]
    return (decode_ggml if is_ggml(entry.dtype) else decode_plain)(entry.dtype, data)


@pytest.mark.parametrize("layout", ["single", "sharded"])
def test_safetensors_files_decode_to_what_was_stored(tmp_path, layout):
    from weight_files import plain_safetensors as made

    files = made.single() if layout == "single" else made.sharded(tmp_path)
    report = read(files)
    assert (report.format, report.problems) == ("safetensors", ())
    assert len({entry.path for entry in report.tensors}) == (1 if layout == "single" else 2)
    expected = made.stored()
    assert {entry.name for entry in report.tensors} == expected.keys()
    for entry in report.tensors:
        values = made.values(expected[entry.name])
        assert np.array_equal(decoded(files, entry), values, equal_nan=True), entry
        assert entry.shape == tuple(expected[entry.name].shape)


def test_gguf_files_decode_to_what_the_package_decodes(tmp_path):
    from weight_files import gguf_blocks as made

    expected = made.written(tmp_path / "m.gguf")
    files = {"m.gguf": (tmp_path / "m.gguf").read_bytes()}
    report = read(files)
    assert (report.format, report.problems) == ("gguf", ())
    assert {entry.dtype for entry in report.tensors} == expected.keys()
    assert len(expected) >= 25
    for entry in report.tensors:
        assert entry.shape == (made.N_ROWS, made.N_COLUMNS)
        values = expected[entry.name].astype(np.float32).reshape(-1)
        assert np.array_equal(decoded(files, entry), values, equal_nan=True), entry
    facts = facts_of(None, "gguf", report.metadata)
    assert (facts.n_heads, facts.n_kv_heads, facts.head_dim) == (8, 2, 64)


def test_every_tensor_of_a_pytorch_archive_decodes_as_in_safetensors():
    from weight_files import plain_safetensors, torch_zip_archives

    expected = plain_safetensors.stored()
    files = {"pytorch_model.bin": torch_zip_archives.saved(expected)}
    for entry in read(files).tensors:
        values = plain_safetensors.values(expected[entry.name])
        assert np.array_equal(decoded(files, entry), values, equal_nan=True), entry
