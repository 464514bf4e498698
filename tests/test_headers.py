"""Headers of weight files: real writers, lies, and random bytes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import MalformedError, NotFoundError, ServerError
from crawler.gguf_headers import parse_gguf_metadata_prefix
from crawler.headers import (
    GGML_BLOCKS,
    NeedMoreBytesError,
    header_steps,
    parse_gguf_header,
    parse_safetensors,
    parse_safetensors_header,
    read_headers,
    weight_files,
)
from crawler.records import FileEntry
from crawler.weight_files import choose_weight_files


def safetensors_bytes(header, data_bytes=0):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


def entry(start, stop, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": shape or [stop - start], "data_offsets": [start, stop]}


def parse(header, data_bytes=0):
    data = safetensors_bytes(header, data_bytes)
    return parse_safetensors_header(data, "m.safetensors", len(data))


@pytest.fixture
def gguf_file(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.base_model.0.repo_url", "https://huggingface.co/a/b")
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_array("tokenizer.ggml.tokens", [f"token{i}" for i in range(5000)])
    writer.add_array("some.numbers", [1, 2, 3])
    rng = np.random.default_rng(0)
    tensors = {
        "blk.0.attn_q.weight": rng.standard_normal((8, 64)).astype(np.float32),
        "output.weight": rng.standard_normal((3, 32)).astype(np.float16),
    }
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    packed = gguf.quants.quantize(tensors["blk.0.attn_q.weight"], gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, tensors, packed.tobytes()


def test_reads_what_the_safetensors_library_writes():
    from safetensors.numpy import save

    values = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int8)}
    data = save(values, metadata={"format": "np"})
    header = parse_safetensors(data, "m.safetensors", len(data))
    assert header.metadata == {"format": "np"}
    for tensor in header.tensors:
        assert data[tensor.start : tensor.stop] == values[tensor.name].tobytes()
        assert tensor.shape == values[tensor.name].shape


def test_reads_what_the_gguf_library_writes(gguf_file):
    path, tensors, packed = gguf_file
    data = path.read_bytes()
    header = parse_gguf_header(data, "m.gguf", len(data))
    found = {tensor.name: tensor for tensor in header.tensors}
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["some.numbers"] == (1, 2, 3)
    assert "tokenizer.ggml.tokens" not in header.metadata
    for name, values in tensors.items():
        tensor = found[name]
        assert tensor.shape == values.shape  # output dimension first
        assert data[tensor.start : tensor.stop] == values.tobytes()
    assert (found["packed"].dtype, found["packed"].shape) == ("Q8_0", (8, 64))
    assert data[found["packed"].start : found["packed"].stop] == packed


def test_block_sizes_agree_with_the_gguf_library():
    gguf = pytest.importorskip("gguf")
    for kind, sizes in gguf.GGML_QUANT_SIZES.items():
        assert GGML_BLOCKS[kind.name] == sizes


@pytest.mark.parametrize("n_files", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_real_gguf_headers_agree_with_the_gguf_library(shared_data, n_files):
    gguf = pytest.importorskip("gguf")
    paths = sorted(
        (shared_data / "gguf-vocab").glob("*.gguf"), key=lambda path: path.stat().st_size
    )
    assert len(paths) == 6
    for path in paths[:n_files]:  # the library takes seconds for a vocabulary
        data = path.read_bytes()
        header = parse_gguf_header(data, path.name, len(data))
        reader = gguf.GGUFReader(path)
        assert [tensor.name for tensor in header.tensors] == [t.name for t in reader.tensors]
        expected = {name for name in reader.fields if not name.startswith("GGUF.")}
        assert header.metadata.keys() <= expected
        assert all(
            len(reader.fields[name].data) > 1024 for name in expected - header.metadata.keys()
        )


def test_a_header_is_found_with_every_first_read(gguf_file):
    path, *_ = gguf_file
    data = path.read_bytes()
    whole = parse_gguf_header(data, "m.gguf", len(data))
    have, rounds = 24, 0
    while True:
        try:
            assert parse_gguf_header(data[:have], "m.gguf", len(data)) == whole
            break
        except NeedMoreBytesError as error:
            needed = error.needed_bytes
        assert have < needed <= len(data)
        have, rounds = max(needed, 2 * have), rounds + 1
    assert rounds < 20


def test_general_metadata_is_read_from_a_prefix(gguf_file):
    data = gguf_file[0].read_bytes()
    found = parse_gguf_metadata_prefix(data[:4096], "m.gguf", len(data))
    assert found["general.base_model.0.repo_url"] == "https://huggingface.co/a/b"
    assert "some.numbers" not in found


@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        ({"w": entry(0, 8)}, 4, "the file has"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "overlap"),
        ({"w": entry(-4, 4, [8])}, 8, "offsets"),
        ({"w": entry(4, 0, [0])}, 8, "offsets"),
        ({"w": entry(0, 8, dtype="F128")}, 8, "unknown dtype"),
        ({"w": entry(0, 8, dtype=["F32"])}, 8, "unknown dtype"),
        ({"w": entry(0, 8, [3], "F32")}, 8, "does not take"),
        ({"w": entry(0, 8, [1 << 61, 1 << 61], "F32")}, 8, "does not take"),
        ({"w": entry(0, 8, [True, 8])}, 8, "shape"),
        ({"w": {"dtype": "U8", "shape": [1]}}, 8, "offsets"),
        ({"w": 3}, 0, "not an object"),
        ([1], 0, "not an object"),
        (b'{"a":1,"a":2}', 0, "stands twice"),
        (b"[" * 200_000, 0, "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", 0, "not JSON"),
        (b"\xff\xfe", 0, "not JSON"),
        (b"", 0, "not JSON"),
    ],
)
def test_a_lying_safetensors_header_is_refused(header, data_bytes, reason):
    with pytest.raises(MalformedError, match=reason):
        parse(header, data_bytes)


@pytest.mark.parametrize("length", [10_000_000_000, (1 << 64) - 1, 5000])
def test_a_header_longer_than_the_file_or_the_bound_is_refused_before_it_is_read(length):
    with pytest.raises(MalformedError, match="header length"):
        parse_safetensors_header(length.to_bytes(8, "little"), "m", 4096)


def test_tensors_without_values_do_not_overlap():
    tensors = parse({"a": entry(0, 4), "none": entry(2, 2, [0]), "b": entry(4, 8)}, 8)
    assert len(tensors) == 3


def gguf_bytes(tensors=b"", n_tensors=0, metadata=b"", n_metadata=0, version=3):
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_metadata)
    return head + metadata + tensors


def gguf_text(text):
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGML" + bytes(100), "not a GGUF"),
        (gguf_bytes(version=1) + bytes(99), "version 1"),
        (gguf_bytes(n_tensors=1 << 60), "tensor count"),
        (gguf_bytes(n_metadata=1 << 60), "metadata count"),
        (gguf_bytes(n_metadata=1, metadata=struct.pack("<Q", 1 << 50)), "string length"),
        (gguf_bytes(n_metadata=1, metadata=gguf_text(b"k") + struct.pack("<I", 77)), "type 77"),
        (
            gguf_bytes(n_metadata=1, metadata=gguf_text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 40)),
            "does not fit",
        ),
        (
            gguf_bytes(
                n_metadata=1,
                metadata=gguf_text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9,
            ),
            "nested",
        ),
        (
            gguf_bytes(n_metadata=2, metadata=(gguf_text(b"k") + struct.pack("<IB", 0, 1)) * 2),
            "stands twice",
        ),
        (
            gguf_bytes(
                n_metadata=1,
                metadata=gguf_text(b"general.alignment") + struct.pack("<II", 4, 0),
            ),
            "alignment",
        ),
        (gguf_bytes(gguf_text(b"t") + struct.pack("<IQIQ", 1, 9, 0, 1 << 40), 1), "ends at byte"),
        (
            gguf_bytes(gguf_text(b"t") + struct.pack("<IQIQ", 1, 8, 0, 31), 1) + bytes(99),
            "begin at",
        ),
        (gguf_bytes(gguf_text(b"t") + struct.pack("<IQIQ", 1, 31, 2, 0), 1), "do not fill blocks"),
        (gguf_bytes(gguf_text(b"t") + struct.pack("<I", 99), 1), "dimensions"),
    ],
)
def test_a_lying_gguf_header_is_refused(data, reason):
    with pytest.raises(MalformedError, match=reason):
        parse_gguf_header(data, "m.gguf", len(data))


def test_a_gguf_tensor_of_an_unknown_type_is_recorded():
    data = gguf_bytes(gguf_text(b"t") + struct.pack("<IQIQ", 1, 8, 4000, 0), 1)
    data = data.ljust(64, b"\0") + bytes(40)
    (tensor,) = parse_gguf_header(data, "m.gguf", len(data)).tensors
    assert (tensor.dtype, tensor.start, tensor.stop) == ("GGML_4000", 64, 104)


@given(st.binary(max_size=400), st.integers(0, 1 << 40), st.booleans())
def test_random_bytes_raise_nothing_else(data, extra, as_gguf):
    if as_gguf:
        data = b"GGUF\x03\0\0\0" + data
    for parser in (parse_safetensors_header, parse_gguf_header):
        try:
            parser(data, "m", len(data) + extra)
        except (MalformedError, NeedMoreBytesError):
            continue


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=4))
def test_any_json_header_is_parsed_or_refused(header):
    data = safetensors_bytes(header, 16)
    try:
        parse_safetensors_header(data, "m", len(data))
    except MalformedError:
        return


@given(st.integers(24, 600), st.integers(0, 255))
def test_a_flipped_byte_of_a_gguf_header_is_parsed_or_refused(at, value):
    metadata = gguf_text(b"general.architecture") + struct.pack("<I", 8) + gguf_text(b"llama")
    tensor = gguf_text(b"w") + struct.pack("<IQQIQ", 2, 32, 4, 8, 0)
    data = bytearray((gguf_bytes(tensor, 1, metadata, 1)).ljust(640, b"\0"))
    data[at] = value
    try:
        parse_gguf_header(bytes(data), "m", len(data))
    except (MalformedError, NeedMoreBytesError):
        return


# A repository's weights.


class Folder:
    """Files in memory that count what is read of them."""

    def __init__(self, files):
        self.files = files
        self.bytes_read = 0

    def __call__(self, path, start, stop):
        if path not in self.files:
            raise NotFoundError(f"no file {path}")
        self.bytes_read += stop - start
        return self.files[path][start:stop]

    @property
    def entries(self):
        return [FileEntry(path, len(data)) for path, data in self.files.items()]


def test_a_large_header_is_read_exactly_and_no_weights_with_it():
    names = {f"tensor.{i:06d}": entry(2 * i, 2 * i + 2) for i in range(3000)}
    data = safetensors_bytes(names, 6000 + 10_000_000)
    folder = Folder({"model.safetensors": data})
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 3000
    assert folder.bytes_read == 8 + int.from_bytes(data[:8], "little") > 1 << 16


def test_shards_follow_the_index_and_a_missing_one_is_reported():
    shard = "model-0000{}-of-00003.safetensors"
    index = {"weight_map": {"a": shard.format(1), "b": shard.format(2), "c": shard.format(3)}}
    folder = Folder(
        {
            "model.safetensors.index.json": json.dumps(index).encode(),
            shard.format(1): safetensors_bytes({"a": entry(0, 4)}, 4),
            shard.format(2): safetensors_bytes({"b": entry(0, 4)}, 2),
            "consolidated.safetensors": safetensors_bytes({"z": entry(0, 4)}, 4),
        }
    )
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a"]
    assert {(problem.path, problem.code) for problem in report.problems} == {
        (shard.format(2), "malformed"),  # truncated
        (shard.format(3), "not_found"),
    }


def test_a_broken_index_leaves_the_shards():
    shard = "model-00001-of-00001.safetensors"
    folder = Folder(
        {
            "model.safetensors.index.json": b"{",
            shard: safetensors_bytes({"a": entry(0, 4)}, 4),
        }
    )
    report = read_headers(folder, folder.entries)
    assert [tensor.path for tensor in report.tensors] == [shard]
    assert [problem.path for problem in report.problems] == ["model.safetensors.index.json"]


def test_of_two_tensors_of_one_name_the_index_says_which_counts():
    for said in (0, 1):
        folder = Folder(shards("ab", "bc", index={"a": 0, "b": said, "c": 1}))
        report = read_headers(folder, folder.entries)
        place = {tensor.name: tensor.path for tensor in report.tensors}
        assert place["b"] == place["ac"[said]]
        assert ["'b' stands in" in problem.reason for problem in report.problems] == [True]


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_shards_that_are_absent_are_told_without_an_index(kind):
    name = "model-0000{}-of-00003." + kind
    data = safetensors_bytes({"a": entry(0, 4)}, 4)
    folder = Folder({name.format(2): data})
    report = read_headers(folder, folder.entries)
    absent = [problem for problem in report.problems if problem.code == "not_found"]
    assert [problem.path for problem in absent] == [name.format(1), name.format(3)]


def test_names_that_promise_a_hundred_thousand_shards_cost_little():
    data = safetensors_bytes({"a": entry(0, 4)}, 4)
    folder = Folder({f"model-00001-of-{n}.safetensors": data for n in range(99_000, 99_050)})
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 1
    assert len(report.problems) < 1_100


def test_a_tensor_in_two_shards_is_reported():
    data = safetensors_bytes({"a": entry(0, 4)}, 4)
    folder = Folder({f"model-0000{i}-of-00002.safetensors": data for i in (1, 2)})
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 1
    assert "too" in report.problems[0].reason


def test_pickles_are_reported_and_never_run():
    folder = Folder({"pytorch_model.bin": b"\x80\x02}.", "training_args.bin": b"x"})
    report = read_headers(folder, folder.entries)
    assert report.format == "pickle"
    assert [(p.path, p.code) for p in report.problems] == [("pytorch_model.bin", "pickle")]
    assert "not read: pickle" in report.problems[0].reason
    folder = Folder({"model.pkl": b"x"})
    report = read_headers(folder, folder.entries)
    assert (report.format, folder.bytes_read) == ("pickle", 0)
    assert [(p.code, p.reason) for p in report.problems] == [
        ("pickle", "model.pkl: not read: pickle")
    ]


@pytest.mark.parametrize(
    ("paths", "format_name", "chosen"),
    [
        ("model.safetensors pytorch_model.bin m.gguf", "safetensors", "model.safetensors"),
        ("m.gguf pytorch_model.bin model.onnx", "gguf", "m.gguf"),
        ("pytorch_model.bin model.onnx", "torch", "pytorch_model.bin"),
        ("onnx/model.onnx onnx/model.onnx_data", "onnx", "onnx/model.onnx"),
        ("onnx/model_quantized.onnx onnx/sub/x.onnx", "onnx", "onnx/model_quantized.onnx"),
        ("optimizer.pt scheduler.pt training_args.bin rng_state_0.pth", "none", ""),
        ("mp_rank_00_optim_states.pt global/optimizer.safetensors", "none", ""),
        ("a-00001-of-00002.safetensors a-00002-of-00002.safetensors x.safetensors", "safetensors",
         "a-00001-of-00002.safetensors a-00002-of-00002.safetensors"),
        ("pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin x.bin", "torch",
         "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin"),
        ("adapter_model.bin other.bin", "torch", "adapter_model.bin"),
        ("adapter_model.safetensors adapter_model.bin", "safetensors", "adapter_model.safetensors"),
        ("a.pth bigger.pth", "torch", "bigger.pth"),
        ("consolidated.00.pth consolidated.01.pth", "none", ""),
        ("consolidated.00.pth", "torch", "consolidated.00.pth"),
        ("last.ckpt", "torch", "last.ckpt"),
        ("model_index.json vae/diffusion_pytorch_model.safetensors "
         "unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.fp16.safetensors",
         "safetensors", "unet/diffusion_pytorch_model.safetensors"),
        ("transformer/diffusion_pytorch_model-00001-of-00002.safetensors "
         "transformer/diffusion_pytorch_model-00002-of-00002.safetensors vae/x.safetensors",
         "safetensors",
         "transformer/diffusion_pytorch_model-00001-of-00002.safetensors "
         "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"),
        ("unet/diffusion_pytorch_model.bin vae/diffusion_pytorch_model.safetensors", "torch",
         "unet/diffusion_pytorch_model.bin"),
        ("checkpoint-500/model.safetensors README.md", "none", ""),
    ],
)  # fmt: skip
def test_the_main_weights_are_chosen_once(paths, format_name, chosen):
    files = [FileEntry(path, 100 + len(path)) for path in paths.split()]
    found = choose_weight_files(files)
    assert (found.format, [file.path for file in found.files]) == (format_name, chosen.split())
    assert choose_weight_files(files[::-1]) == found


def shards(*tensors_of_shards, index=None, stem="model", suffix="safetensors"):
    n = len(tensors_of_shards)
    names = [f"{stem}-{i + 1:05}-of-{n:05}.{suffix}" for i in range(n)]
    files = {
        name: safetensors_bytes({t: entry(4 * i, 4 * i + 4) for i, t in enumerate(tensors)}, 99)
        for name, tensors in zip(names, tensors_of_shards, strict=True)
    }
    weight_map = {tensor: names[shard] for tensor, shard in (index or {}).items()}
    files[f"{stem}.{suffix}.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


def test_an_index_that_agrees_with_its_shards_is_no_problem():
    folder = Folder(shards("ab", "c", index={"a": 0, "b": 0, "c": 1}))
    report = read_headers(folder, folder.entries)
    assert ([t.name for t in report.tensors], report.problems) == (["a", "b", "c"], ())


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"a": 0, "b": 0, "c": 1, "d": 1}, "'d' is not in its shard"),
        ({"a": 0, "b": 1, "c": 1}, "'b' stands in another shard than the index says"),
        ({"a": 0, "c": 1}, "'b' is not in the index"),
        ({"x": 0, "y": 0, "z": 1, "u": 1, "a": 0, "b": 0, "c": 1}, "and 1 more is not in its"),
    ],
)
def test_shards_that_disagree_with_their_index_are_told_and_read(index, reason):
    folder = Folder(shards("ab", "c", index=index))
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a", "b", "c"]
    assert [problem.path for problem in report.problems] == ["model.safetensors.index.json"]
    assert reason in report.problems[0].reason


def test_a_shard_that_the_index_leaves_out_is_not_read():
    folder = Folder(shards("a", "b", index={"a": 0}))
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a"]


def test_shards_of_networks_in_folders_follow_their_own_index():
    files = shards("a", "b", index={"a": 0, "b": 1}, stem="diffusion_pytorch_model")
    folder = Folder({f"transformer/{path}": data for path, data in files.items()})
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a", "b"]
    assert report.problems == ()


def test_an_index_alone_names_what_is_absent():
    files = shards("a", "b", index={"a": 0, "b": 1})
    folder = Folder({"model.safetensors.index.json": files["model.safetensors.index.json"]})
    report = read_headers(folder, folder.entries)
    assert (report.format, report.tensors) == ("safetensors", ())
    assert [problem.code for problem in report.problems] == ["not_found"] * 2


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": 3}, {"weight_map": {}}, {"weight_map": {"a": 3}}, [1]]
)
def test_an_index_without_a_map_leaves_the_shards(index):
    files = shards("a", "b")
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    folder = Folder(files)
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a", "b"]
    assert len(report.problems) == 1


def test_an_index_cannot_name_files_outside_the_repository():
    files = shards("a", index={"a": 0})
    weight_map = {"a": "../../etc/passwd", "b": "model-00001-of-00001.safetensors"}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    folder = Folder(files)
    report = read_headers(folder, folder.entries)
    assert [tensor.path for tensor in report.tensors] == ["model-00001-of-00001.safetensors"]
    assert report.problems[0].code == "not_found"


def test_many_tensors_in_two_shards_are_one_problem():
    folder = Folder(shards("abcdefgh", "abcdefghi"))
    report = read_headers(folder, folder.entries)
    twice = [problem.reason for problem in report.problems if "too" in problem.reason]
    assert len(report.tensors) == 9
    assert len(twice) == 1
    assert "'a', 'b', 'c' and 5 more stands in" in twice[0]


def test_more_files_than_any_model_has_are_not_read(monkeypatch):
    monkeypatch.setattr("crawler.headers._MAX_FILES", 2)
    folder = Folder(
        {f"{i}.safetensors": safetensors_bytes({f"t{i}": entry(0, 4)}, 4) for i in range(3)}
    )
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 2
    assert "more than 2 weight files" in report.problems[0].reason


def test_scalars_and_tensors_without_values_are_entries():
    folder = Folder(
        {
            "model.safetensors": safetensors_bytes(
                {
                    "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
                    "none": {"dtype": "F32", "shape": [0, 7], "data_offsets": [4, 4]},
                },
                4,
            )
        }
    )
    report = read_headers(folder, folder.entries)
    assert [(t.shape, t.stop - t.start) for t in report.tensors] == [((), 4), ((0, 7), 0)]


def test_steps_wish_for_bytes_and_are_told_of_errors():
    data = safetensors_bytes({"a": entry(0, 4)}, 4)
    files = [FileEntry(f"model-0000{i}-of-00002.safetensors", len(data)) for i in (1, 2)]
    steps = header_steps(files)
    assert next(steps) == (files[0].path, 0, len(data))
    assert steps.throw(ServerError("down")) == (files[1].path, 0, len(data))
    with pytest.raises(StopIteration) as done:
        steps.send(data)
    report = done.value.value
    assert [tensor.path for tensor in report.tensors] == [files[1].path]
    assert [(problem.path, problem.code) for problem in report.problems] == [
        (files[0].path, "server")
    ]


def test_fewer_bytes_than_were_wished_for_are_a_problem():
    data = safetensors_bytes({"a": entry(0, 4)}, 4)
    report = read_headers(lambda *_: data[:-1], [FileEntry("model.safetensors", len(data))])
    assert [problem.code for problem in report.problems] == ["truncated"]


def test_an_empty_file_is_a_problem_and_no_wish():
    folder = Folder({name: b"" for name in ("model.safetensors",)})
    assert read_headers(folder, folder.entries).problems[0].code == "malformed"
    for name in ("x.gguf", "pytorch_model.bin", "model.onnx"):
        folder = Folder({name: b""})
        report = read_headers(folder, folder.entries)
        assert (report.tensors, folder.bytes_read, len(report.problems)) == ((), 0, 1)


def test_of_several_gguf_files_the_largest_is_read(gguf_file):
    data = gguf_file[0].read_bytes()
    folder = Folder({"m.Q8_0.gguf": data, "m.Q2_K.gguf": data[:10], "mmproj.gguf": data + data})
    assert [file.path for file in weight_files(folder.entries)] == ["m.Q8_0.gguf"]
    report = read_headers(folder, folder.entries)
    assert (report.format, len(report.tensors), report.problems) == ("gguf", 3, ())


def test_nothing_to_read_is_no_problem():
    report = read_headers(Folder({}), [FileEntry("README.md", 3)])
    assert (report.format, report.tensors, report.problems) == ("none", (), ())


def test_an_index_without_measure_is_not_read(monkeypatch):
    monkeypatch.setattr("crawler.headers.MAX_INDEX_BYTES", 10)
    folder = Folder(shards("a", "b", index={"a": 0, "b": 1}))
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 2
    assert "too many for an index" in report.problems[0].reason


def test_more_tensors_than_any_model_has_end_the_reading(monkeypatch):
    monkeypatch.setattr("crawler.headers._MAX_TENSORS", 1)
    folder = Folder(shards("ab", "c", index={"a": 0, "b": 0, "c": 1}))
    report = read_headers(folder, folder.entries)
    assert [tensor.name for tensor in report.tensors] == ["a", "b"]
    assert "2 tensors were found before" in report.problems[0].reason
