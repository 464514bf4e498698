"""One behaviour for every format: what we read is what the library that owns the format reads."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from safetensors import safe_open

import weight_files
from crawler.headers import read_headers
from crawler.records import FileEntry
from lineage.weights.encodings import contains, decode_rows, is_packed, round_to, row_bytes
from lineage.weights.facts import facts_of
from lineage.weights.layout import Layout, lay_out
from lineage.weights.weight import Weight
from weight_files import F32, Written

FORMATS = sorted(weight_files.WRITERS)


class Model:
    """A written folder, its layout, and rows of its weights read from the file."""

    def __init__(self, written: Written) -> None:
        self.written = written
        self.data = {
            path.name: path.read_bytes()
            for path in written.folder.iterdir()
            if path.name != "config.json"
        }
        files = [FileEntry(path, len(data)) for path, data in sorted(self.data.items())]
        report = read_headers(lambda path, start, stop: self.data[path][start:stop], files)
        assert not report.problems
        config = written.folder / "config.json"
        stated = json.loads(config.read_text()) if config.exists() else None
        self.entries = report.tensors
        self.layout: Layout = lay_out(
            report.tensors, facts_of(stated, report.format, report.metadata)
        )
        self.weights = {str(weight.key): weight for weight in self.layout.weights}

    def parts(self, weight: Weight, first: int, stop: int) -> dict[str, bytes]:
        """Bytes of stored rows, of every part."""
        spans = {part.name: (part.path, *part.span(first, stop)) for part in weight.parts}
        return {name: self.data[path][a:b] for name, (path, a, b) in spans.items()}

    def stored_rows(self, weight: Weight, first: int, stop: int) -> F32:
        n_rows, n_columns = stop - first, weight.n_columns
        if weight.columns is not None:  # others stand beside it
            n_columns = weight.main.unit_bytes // row_bytes(weight.dtype, 1)
        values = decode_rows(weight.dtype, self.parts(weight, first, stop), n_rows, n_columns)
        if weight.columns is not None:
            values = values[:, slice(*weight.columns)]
        return values - np.float32(weight.shift)

    def n_stored(self, weight: Weight) -> int:
        order = weight.order
        if order is None:
            return weight.n_rows
        return 1 + max(order.stored(row) for row in range(weight.n_rows))

    def values(self, weight: Weight) -> F32:
        """All rows in the original's order."""
        stored = self.stored_rows(weight, 0, self.n_stored(weight))
        order = weight.order
        if order is not None:
            stored = stored[[order.stored(row) for row in range(weight.n_rows)]]
        return stored


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    written: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in written:
            written[name] = Model(weight_files.WRITERS[name](tmp_path_factory.mktemp("model")))
        return written[name]

    return model


@pytest.mark.parametrize("name", FORMATS)
def test_values_are_those_that_the_owner_of_the_format_reads(models, name):
    model = models(name)
    assert model.weights.keys() == model.written.truth.keys()
    for key, truth in model.written.truth.items():
        weight = model.weights[key]
        ours = round_to(model.written.works_in, model.values(weight))
        assert ours.dtype == np.float32
        assert np.array_equal(ours, truth.reshape(ours.shape)), key  # bits, but for a zero's sign


@pytest.mark.parametrize("name", FORMATS)
def test_a_block_of_rows_reads_as_in_the_whole(models, name):
    model = models(name)
    rng = random.Random(name)
    for weight in model.weights.values():
        whole = model.stored_rows(weight, 0, model.n_stored(weight))
        for _ in range(3):
            stop = rng.randint(1, len(whole))
            # Several parts are put together from row 0 on.
            first = 0 if is_packed(weight.dtype) else rng.randrange(stop)
            assert np.array_equal(model.stored_rows(weight, first, stop), whole[first:stop])


@pytest.mark.parametrize("name", FORMATS)
def test_stored_words_are_kept(models, name):
    model = models(name)
    for path in model.written.folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for weight in model.weights.values():
                stored = file.get_tensor(weight.name).contiguous().flatten()
                kept = model.data[path.name][weight.main.start : weight.main.stop]
                assert kept in stored.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_every_stored_tensor_is_part_of_a_weight_or_passed_over(models, name):
    model = models(name)
    used = {(p.path, p.start, p.stop) for w in model.weights.values() for p in w.parts}
    passed_over = dict(model.layout.passed_over)
    for entry in model.entries:
        is_used = any(
            path == entry.path and entry.start <= start and stop <= entry.stop
            for path, start, stop in used
        )
        assert is_used or entry.name in passed_over, entry.name


@pytest.mark.parametrize("name", FORMATS)
def test_the_original_rounds_to_the_stored_codes_and_a_stranger_does_not(models, name):
    model = models(name)
    for key, original in model.written.originals.items():
        weight = model.weights[key]
        parts = model.parts(weight, 0, weight.n_rows)
        equal, n = contains(weight.dtype, parts, weight.n_rows, weight.n_columns, original)
        assert n >= 0.9 * original.size
        assert equal / n >= model.written.contained
        stranger = np.random.default_rng(0).standard_normal(original.shape).astype(np.float32)
        equal, n = contains(weight.dtype, parts, weight.n_rows, weight.n_columns, stranger)
        assert equal / n < 0.5
