"""Initialisers of ONNX models: files of the onnx package, lies, and random bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import MalformedError
from crawler.headers import read_headers
from crawler.onnx_headers import onnx_steps
from crawler.records import FileEntry
from lineage.weights.encodings.plain import decode_plain
from weight_files.onnx_models import arrays, model, plain_model, values, with_external_data


class Folder:
    """Files in memory that note what is read of them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.wishes: list[tuple[str, int, int]] = []

    def __call__(self, path: str, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.files[path])
        self.wishes.append((path, start, stop))
        return self.files[path][start:stop]

    @property
    def bytes_read(self) -> int:
        return sum(stop - start for _, start, stop in self.wishes)

    @property
    def entries(self) -> list[FileEntry]:
        return [FileEntry(path, len(data)) for path, data in self.files.items()]


def read(files: dict[str, bytes]):
    folder = Folder(files)
    return read_headers(folder, folder.entries)


def read_one(data: bytes):
    return read({"model.onnx": data})


def reasons(report) -> list[str]:
    return [problem.reason.split(": ", 1)[1] for problem in report.problems]


# ---- messages by hand ------------------------------------------------------------------------


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def nested(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name="w", dims=(2, 3), data_type=1, raw: bytes | None = bytes(24), more=b"") -> bytes:
    parts = b"".join(number(1, length) for length in dims) + number(2, data_type)
    parts += nested(8, name.encode()) + (b"" if raw is None else nested(9, raw))
    return nested(5, parts + more)


def onnx_file(*tensors: bytes, graphs: int = 1, more: bytes = b"") -> bytes:
    return number(1, 8) + nested(7, b"".join(tensors)) * graphs + more


def external(**pairs: str) -> bytes:
    texts = (nested(1, key.encode()) + nested(2, value.encode()) for key, value in pairs.items())
    return b"".join(nested(13, text) for text in texts) + number(14, 1)


# ---- what the onnx package writes --------------------------------------------------------------


@pytest.mark.parametrize("n_nodes", [1, 2000])
def test_every_initialiser_that_onnx_writes_is_found_where_its_words_lie(n_nodes):
    pytest.importorskip("onnx")
    data = plain_model(n_nodes).SerializeToString()
    report = read_one(data)
    assert (report.format, report.problems) == ("onnx", ())
    expected = arrays()
    assert [entry.name for entry in report.tensors] == list(expected)
    for entry in report.tensors:
        array = expected[entry.name]
        assert entry.shape == array.shape
        found = decode_plain(entry.dtype, data[entry.start : entry.stop])
        assert np.array_equal(found, values(array), equal_nan=True), entry


@pytest.mark.parametrize(
    "options", [{"location": "model.onnx_data"}, {"all_tensors_to_one_file": False}]
)
def test_words_in_other_files_are_found(tmp_path, options):
    pytest.importorskip("onnx")
    files = {f"onnx/{name}": d for name, d in with_external_data(tmp_path, **options).items()}
    report = read(files)
    assert report.problems == ()
    expected = arrays()
    assert {entry.name for entry in report.tensors} == expected.keys()
    for entry in report.tensors:
        found = decode_plain(entry.dtype, files[entry.path][entry.start : entry.stop])
        assert np.array_equal(found, values(expected[entry.name]), equal_nan=True)
    assert any(entry.path != "onnx/model.onnx" for entry in report.tensors)


def test_numbers_that_are_no_plain_words_are_passed_over_with_a_reason():
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    made = [
        helper.make_tensor("floats", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]),
        helper.make_tensor("doubles", TensorProto.DOUBLE, [2], [1.0, 2.0]),
        helper.make_tensor("halves", TensorProto.FLOAT16, [2], [1, 2]),
        helper.make_tensor("integers", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("texts", TensorProto.STRING, [1], [b"x"]),
        helper.make_tensor("nibbles", TensorProto.INT4, [2], [1, 2], raw=False),
    ]
    data = model(made).SerializeToString()
    report = read_one(data)
    found = {entry.name: entry for entry in report.tensors}
    assert found.keys() == {"floats", "doubles"}  # packed floats are plain words
    for name, expected in (("floats", [1, 2, 3, 4]), ("doubles", [1, 2])):
        entry = found[name]
        assert decode_plain(entry.dtype, data[entry.start : entry.stop]).tolist() == expected
    assert reasons(report) == [
        "'halves': its values stand in int32_data, not as plain words",
        "'integers': its values stand in int64_data, not as plain words",
        "'texts': its values stand in string_data, not as plain words",
        "'nibbles': its values stand in int32_data, not as plain words",
    ]


def test_of_a_large_model_few_bytes_are_read():
    raw = bytes(4 * 512 * 512)
    tensors = [tensor(f"layer.{i}.w", (512, 512), raw=raw) for i in range(20)]
    nodes = nested(1, bytes(2) + b"x" * 90) * 1000
    data = onnx_file(nodes, *tensors)
    folder = Folder({"model.onnx": data})
    report = read_headers(folder, folder.entries)
    assert [entry.name for entry in report.tensors] == [f"layer.{i}.w" for i in range(20)]
    assert all(data[e.start : e.stop] == raw for e in report.tensors)
    assert folder.wishes[0] == ("model.onnx", 0, 64 << 10)
    assert len(folder.wishes) <= 24
    assert folder.bytes_read < 500_000 < len(data) / 40


def test_many_small_nodes_are_read_in_growing_pieces():
    folder = Folder({"model.onnx": onnx_file(nested(1, bytes(2000)) * 1000, tensor())})
    assert len(read_headers(folder, folder.entries).tensors) == 1
    assert len(folder.wishes) <= 6


def test_a_shape_without_measure_is_not_read():
    folder = Folder({"model.onnx": onnx_file(nested(5, nested(1, bytes(5_000_000))))})
    assert "too many dimensions" in reasons(read_headers(folder, folder.entries))[0]
    assert folder.bytes_read < 100_000


# ---- lies ------------------------------------------------------------------------------------


def test_fields_that_mean_nothing_here_are_jumped_over():
    before = varint(20 << 3 | 1) + bytes(8) + varint(21 << 3 | 5) + bytes(4)
    report = read_one(before + onnx_file(number(5, 1), tensor(more=number(14, 0))))
    assert (len(report.tensors), report.problems) == (1, ())


def test_a_message_by_hand_is_read():
    report = read_one(
        onnx_file(tensor("a"), tensor("s", (), raw=bytes(4)), tensor("e", (0,), raw=None))
    )
    assert report.problems == ()
    assert [(e.name, e.shape, e.stop - e.start) for e in report.tensors] == [
        ("a", (2, 3), 24), ("s", (), 4), ("e", (0,), 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (tensor(raw=bytes(20)), "20 bytes are not its shape [2, 3] of F32"),
        (tensor(dims=(1 << 63, 2)), "shape is not usable"),
        (tensor(dims=(1 << 61,) * 60), "24 bytes are not its shape"),
        (tensor(data_type=21), "words of UINT4 are not read"),
        (tensor(data_type=99), "words of type 99 are not read"),
        (tensor(raw=None), "it has no values"),
        (tensor(more=nested(9, bytes(24))), "its values are scattered"),
        (tensor(more=number(9, 3)), "its values are scattered"),
        (tensor(more=nested(3, b"")), "one segment"),
        (tensor(data_type=6, raw=None, more=nested(4, bytes(24))), "words of its type"),
        (tensor(data_type=23, dims=(3,), raw=bytes(2)), "2 bytes are not its shape [3] of F4"),
        (nested(15, b""), "1 sparse initialisers"),
        (tensor() + tensor(), "the name stands twice"),
        (tensor(more=external(location="../../x")), "not inside the repository"),
        (tensor(more=external(location="/etc/passwd")), "not inside the repository"),
        (tensor(more=external(offset="0")), "not inside the repository"),
        (tensor(more=external(location="absent")), "'absent', which is absent"),
        (tensor(more=external(location="d", length="23")), "is not the 24 bytes"),
        (tensor(more=external(location="d", offset="77")), "reach beyond 'd'"),
        (tensor(more=external(location="d", offset="-1")), "reach beyond 'd'"),
        (tensor(more=external(location="d", offset="²")), "reach beyond 'd'"),
        (
            tensor("a", more=external(location="d")) + tensor("b", more=external(location="d")),
            "'b': it shares bytes with another",
        ),
    ],
)
def test_an_initialiser_that_lies_is_passed_over_with_a_reason(item, reason):
    report = read({"model.onnx": onnx_file(tensor("fine"), item), "d": bytes(100)})
    assert report.tensors[0].name == "fine"
    assert reason in reasons(report)[0]


def test_external_words_lie_where_the_message_says():
    data = onnx_file(tensor(raw=None, more=external(location="d", offset="76", length="24")))
    (entry,) = read({"model.onnx": data, "d": bytes(100)}).tensors
    assert (entry.path, entry.start, entry.stop) == ("d", 76, 100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it has no graph"),
        (number(1, 8), "it has no graph"),
        (number(7, 8), "it has no graph"),
        (onnx_file(tensor(), graphs=2), "two graphs"),
        (b"\x0b" + bytes(30), "a field of kind 3"),
        (b"\xff" * 30, "a number without an end"),
        (varint(7 << 3 | 2) + varint(1 << 40), "has no end"),
        (varint(2), "a number without an end"),
        (b"\x00\x00", "has no end"),  # no field has the number 0
        (onnx_file(nested(5, nested(8, b"n" * 5000))), "a text of 5000 bytes"),
        (onnx_file(nested(5, number(1, 1) * 65)), "too many dimensions"),
        (onnx_file(nested(5, nested(1, bytes(700)))), "too many dimensions"),
        (onnx_file(nested(5, number(13, 1))), "a pair that is none"),
        (onnx_file(nested(5, number(8, 1))), "a text of 0 bytes"),
        (onnx_file(nested(5, varint(9 << 3 | 2) + varint(30)), tensor()), "has no end"),
        (onnx_file(nested(5, varint(9 << 3 | 2) + varint(99))), "has no end"),
        (onnx_file(nested(1, b"") * 150_001), "more than 150000 fields"),
    ],
)
def test_a_file_that_is_no_model_is_refused(data, reason):
    report = read_one(data)
    assert report.tensors == ()
    assert reason in reasons(report)[0]


def test_a_model_that_is_spread_over_too_many_places_is_given_up(monkeypatch):
    monkeypatch.setattr("crawler.onnx_headers._MAX_WISHES", 5)
    raw = bytes(4 * 100 * 100)
    data = onnx_file(*[tensor(f"w{i}", (100, 100), raw=raw) for i in range(10)])
    assert "spread over too many places" in reasons(read_one(data))[0]


def test_packed_shapes_are_read():
    packed = nested(
        5, nested(1, bytes([2, 3])) + number(2, 1) + nested(8, b"w") + nested(9, bytes(24))
    )
    assert read_one(onnx_file(packed)).tensors[0].shape == (2, 3)


def walk(data: bytes):
    steps = onnx_steps("m.onnx", {"m.onnx": len(data)})
    try:
        _, start, stop = next(steps)
        while True:
            _, start, stop = steps.send(data[start:stop])
    except StopIteration as done:
        return done.value


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_else(data, inside):
    try:
        walk(onnx_file(nested(5, data)) if inside else data)
    except MalformedError:
        return


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused(at, value):
    data = bytearray(onnx_file(tensor("a"), tensor("b", more=external(location="d"))))
    data[at % len(data)] = value
    for entry in read({"model.onnx": bytes(data), "d": bytes(30)}).tensors:
        assert 0 <= entry.start <= entry.stop


def test_many_initialisers_that_cannot_be_read_are_few_problems():
    report = read_one(onnx_file(*[tensor(f"w{i}", raw=bytes(3)) for i in range(130)]))
    assert len(report.problems) == 101
    assert "30 more initialisers" in report.problems[-1].reason


def test_more_initialisers_than_any_model_has_are_refused(monkeypatch):
    monkeypatch.setattr("crawler.onnx_headers._MAX_INITIALISERS", 3)
    report = read_one(onnx_file(*[tensor(f"w{i}") for i in range(4)]))
    assert "more than 3 initialisers" in report.problems[0].reason
