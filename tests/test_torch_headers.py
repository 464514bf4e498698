"""PyTorch archives are read without unpickling: files of torch.save, lies, and random bytes."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crawler import torch_pickle
from crawler.errors import MalformedError, TruncatedError
from crawler.headers import read_headers
from crawler.records import FileEntry
from crawler.torch_headers import _unusable
from crawler.torch_pickle import walk_pickle
from crawler.torch_records import StoredTensor
from crawler.zip_directory import ZipRecord
from weight_files.torch_zip_archives import layouts, saved, stored_bytes, tensors

NAME = "pytorch_model.bin"


class Folder:
    """Files in memory that note what is read of them."""

    def __init__(self, data: bytes, name: str = NAME) -> None:
        self.files = {name: data}
        self.wishes: list[tuple[int, int]] = []

    def __call__(self, path: str, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.files[path])
        self.wishes.append((start, stop))
        return self.files[path][start:stop]

    @property
    def bytes_read(self) -> int:
        return sum(stop - start for start, stop in self.wishes)

    @property
    def entries(self) -> list[FileEntry]:
        return [FileEntry(path, len(data)) for path, data in self.files.items()]


def read(data: bytes, name: str = NAME):
    folder = Folder(data, name)
    return read_headers(folder, folder.entries)


def reasons(data: bytes, name: str = NAME) -> str:
    return "\n".join(problem.reason for problem in read(data, name).problems)


def rebuilt(data: bytes, change=None, **options) -> bytes:
    """The records of an archive written anew by Python's zipfile, after `change(name, data)`."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", **options) as new:
        for name in old.namelist():
            content = old.read(name)
            content = change(name, content) if change else content
            if content is not None:
                new.writestr(name, content)
    return made.getvalue()


def with_pickle(program: bytes, **records: bytes) -> bytes:
    """An archive around a pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/byteorder", "little")
        for key, words in records.items():
            archive.writestr(f"a/data/{key.lstrip('_')}", words)
    return made.getvalue()


# ---- what torch.save writes ----------------------------------------------------------------


@pytest.mark.parametrize("layout", ["plain", "state_dict", "model", "nested"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_tensor_that_pytorch_saves_is_found_where_its_words_lie(layout, protocol):
    checkpoint, prefix = layouts()[layout]
    expected = tensors()
    data = saved(checkpoint, pickle_protocol=protocol)
    report = read(data)
    assert (report.format, report.problems) == ("torch", ())
    assert [entry.name for entry in report.tensors] == [prefix + name for name in expected]
    for entry in report.tensors:
        tensor = expected[entry.name.removeprefix(prefix)]
        assert data[entry.start : entry.stop] == stored_bytes(tensor), entry
        assert entry.shape == tuple(tensor.shape)


def test_tensors_in_places_that_give_them_no_name_are_told():
    ones = torch.ones(3)
    deep: dict = {"w": ones}
    for level in range(7):
        deep = {f"part{level}": deep}
    data = saved(
        {"w": ones, "many": [ones], "few": (ones,), "steps": [3], "rng_state": [ones], **deep}
    )
    report = read(data)
    assert [entry.name for entry in report.tensors] == ["w"]
    told = "\n".join(problem.reason for problem in report.problems)
    for reason in ("many", "few", "a list of tensors", "part6.part5", "nested too deep"):
        assert reason in told
    assert "steps" not in told
    assert "rng" not in told


def test_dtypes_have_the_names_of_safetensors():
    from safetensors.torch import _TYPES

    names = {str(dtype).removeprefix("torch."): name for name, dtype in _TYPES.items()}
    names |= {"float8_e8m0fnu": "F8_E8M0"}
    for entry in read(saved(tensors())).tensors:
        dtype = str(tensors()[entry.name].dtype).removeprefix("torch.")
        assert entry.dtype == names[dtype]


def test_a_byte_of_two_four_bit_floats_counts_as_two_values():
    words = torch.arange(8, dtype=torch.uint8).reshape(2, 4)
    (entry,) = read(saved({"w": words.view(torch.float4_e2m1fn_x2)})).tensors
    assert (entry.dtype, entry.shape, entry.stop - entry.start) == ("F4", (2, 8), 8)


def test_a_large_archive_costs_few_requests_and_few_bytes():
    checkpoint = {f"model.layers.{i}.w": torch.randn(256, 512) for i in range(150)}
    data = saved(checkpoint)
    folder = Folder(data)
    report = read_headers(folder, folder.entries)
    assert len(report.tensors) == 150
    assert all(data[e.start : e.stop] == stored_bytes(checkpoint[e.name]) for e in report.tensors)
    assert len(folder.wishes) <= 6
    assert folder.bytes_read < 200_000 < len(data) / 300


def test_tensors_that_share_words_are_listed_once():
    base = torch.randn(6, 4)
    report = read(saved({"a": base, "b": base, "c": base.clone(), "rows": base[1:3]}))
    assert [entry.name for entry in report.tensors] == ["a", "c"]
    assert [(problem.code, problem.reason) for problem in report.problems] == [
        ("malformed", f"{NAME}: 'rows': it shares bytes with another"),
        ("tied", f"{NAME}: 'b' has the bytes of 'a'"),
    ]


def test_views_of_one_storage_that_do_not_meet_are_all_listed():
    flat = torch.arange(24, dtype=torch.float32)
    data = saved({"a": flat[:12].view(3, 4), "b": flat[12:].view(4, 3)})
    report = read(data)
    assert report.problems == ()
    assert [data[e.start : e.stop] for e in report.tensors] == [
        stored_bytes(flat[:12]), stored_bytes(flat[12:]),
    ]  # fmt: skip


def test_transposed_tensors_are_passed_over_with_a_reason():
    base = torch.randn(6, 4)
    report = read(saved({"t": base.T, "cut": base[:, :2], "w": base[0]}))
    assert "'t', 'cut': it is not stored row by row" in report.problems[0].reason
    assert [entry.name for entry in report.tensors] == ["w"]


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_words_are_passed_over_with_a_reason():
    checkpoint = {
        "sparse": torch.eye(3).to_sparse(),
        "double": torch.zeros(3, dtype=torch.complex128),
        "w": torch.ones(2),
    }
    report = read(saved(checkpoint))
    assert [entry.name for entry in report.tensors] == ["w"]
    assert {problem.reason.split(": ", 1)[1] for problem in report.problems} == {
        "'sparse': it is made by torch._utils._rebuild_sparse_tensor, which is not read",
        "'double': words of torch.ComplexDoubleStorage are not read",
    }


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        ([torch.ones(2)], "is a list, not a dictionary"),
        (torch.ones(2), "is a single tensor, not a dictionary"),
        (torch.nn.Linear(2, 2), "is an object of torch.nn.modules.linear.Linear, not"),
    ],
)
def test_a_checkpoint_that_is_no_dictionary_is_refused_by_what_it_is(checkpoint, reason):
    assert reason in reasons(saved(checkpoint))


def test_a_bare_pickle_and_a_script_are_refused_by_what_they_are():
    report = read(saved({"w": torch.ones(3)}, _use_new_zipfile_serialization=False))
    assert (report.format, report.problems[0].code) == ("pickle", "pickle")
    assert "not read: pickle (a bare one" in report.problems[0].reason
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:  # what torch.jit.save writes, by its names
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"m/{name}", b"x")
    assert "a TorchScript program" in reasons(made.getvalue(), "model.pt")
    assert "not read: pickle or other data" in reasons(b"GGML" + bytes(900), "model.bin")
    assert "none that PyTorch saved" in reasons(rebuilt(made.getvalue(), lambda n, d: None))


def test_words_in_the_other_byte_order_are_refused():
    data = saved({"w": torch.ones(3)})
    other = rebuilt(data, lambda n, d: b"big" if n.endswith("byteorder") else d)
    assert "words of the byte order b'big' are not read" in reasons(other)
    endless = rebuilt(data, lambda n, d: b" " * 10**6 if n.endswith("byteorder") else d)
    assert "words of the byte order b'' are not read" in reasons(endless)
    older = rebuilt(data, lambda n, d: None if n.endswith("byteorder") else d)
    assert len(read(older).tensors) == 1  # before PyTorch 2.1 there was no such record


def test_a_compressed_archive_is_refused():
    data = saved({"w": torch.ones(300)})
    assert "compressed" in reasons(rebuilt(data, compression=zipfile.ZIP_DEFLATED))
    mixed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(mixed, "w") as new:
        for name in old.namelist():
            kind = zipfile.ZIP_DEFLATED if name.endswith("data/0") else zipfile.ZIP_STORED
            new.writestr(name, old.read(name), compress_type=kind)
    assert "'w': its storage is compressed" in reasons(mixed.getvalue())


# ---- where records begin ---------------------------------------------------------------------


def test_an_archive_that_another_program_wrote_anew_is_read():
    checkpoint = {f"w{i}": torch.randn(40 + i) for i in range(30)}
    data = rebuilt(saved(checkpoint))
    report = read(data)
    assert report.problems == ()
    for entry in report.tensors:
        assert data[entry.start : entry.stop] == stored_bytes(checkpoint[entry.name])


def moved(data: bytes, by: int) -> bytes:
    """The same archive, but every record's data `by` bytes earlier than where PyTorch puts them."""
    made = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for record in archive.infolist():
            at = record.header_offset
            n_name, n_extra = struct.unpack_from("<2H", made, at + 26)
            start = at + 30 + n_name + n_extra
            if n_extra < by + 4 or not record.filename.endswith(tuple("0123456789")):
                continue
            struct.pack_into("<H", made, at + 28, n_extra - by)
            words = made[start : start + record.file_size]
            made[start - by : start - by + record.file_size] = words
    return bytes(made)


def test_local_headers_are_believed_where_they_differ_from_what_pytorch_writes():
    checkpoint = {f"w{i}": torch.randn(64) for i in range(40)}
    data = moved(saved(checkpoint), 8)
    again = torch.load(io.BytesIO(data))
    assert all(torch.equal(again[name], checkpoint[name]) for name in checkpoint)
    report = read(data)
    for entry in report.tensors:
        assert data[entry.start : entry.stop] == stored_bytes(checkpoint[entry.name])


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        ("end", b"PK\5\7", "cut off"),  # no end of the archive
        ("end+4", b"\1\0", "end of the archive"),  # of several disks
        ("end+10", b"\xfe\xff", "ends before its"),  # more records than there are
        ("end+12", b"\0\0\0\1", "out of bounds"),  # a larger directory
        ("end+12", b"\x50\0\0\0", "ends before its"),  # one that ends inside its second record
        ("end+16", b"\xff\xff\xff\x7f", "out of bounds"),  # elsewhere
        ("end+16", b"\xff\xff\xff\xff", "64-bit locator"),  # in 64 bits, without such numbers
        ("end+20", b"\1\0", "end of the archive"),  # a comment that is not there
        ("directory", b"PK\1\3", "ends before its"),
        ("directory+20", b"\1\0\0\0", "another size"),
        ("directory+42", b"\xff\xff\xff\x7f", "no room"),
        ("directory+8", b"\1\0", "compressed or encrypted"),
        ("start", b"PK\3\5", "no local header"),
        ("start+28", b"\xff\xff", "reaches into the next"),
    ],
)
def test_a_lying_archive_is_refused(position, value, reason):
    data = bytearray(rebuilt(saved({"w": torch.ones(5), "v": torch.ones(7)})))
    end = data.rfind(b"PK\5\6")
    where, _, plus = position.partition("+")
    place = {"end": end, "directory": struct.unpack_from("<I", data, end + 16)[0], "start": 0}
    at = place[where] + int(plus or 0)
    data[at : at + len(value)] = value
    report = read(bytes(data))
    assert report.tensors == ()
    assert reason in report.problems[0].reason


def test_a_record_that_stands_twice_is_refused():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a/data.pkl", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/data.pkl", b"y")
    assert "'a/data.pkl' twice" in reasons(made.getvalue())


def ended_in_64_bits(data: bytes, **last: int) -> bytes:
    """The same archive with a 64-bit end; `last` are the numbers of the 32-bit one."""
    end = data.rfind(b"PK\5\6")
    n, size, start = struct.unpack_from("<HII", data, end + 10)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    numbers = {"disk": 0, "n": 0, "size": 0, "start": 0} | last
    disk, n, size, start = numbers.values()
    return data[:end] + wide + locator + struct.pack(
        "<4s4H2IH", b"PK\5\6", disk, disk, n, n, size, start, 0
    )  # fmt: skip


FULL = {"n": 2**16 - 1, "size": 2**32 - 1, "start": 2**32 - 1}


def test_directories_in_64_bits_are_read():
    checkpoint = {"w": torch.ones(5)}
    plain = rebuilt(saved(checkpoint))
    data = ended_in_64_bits(plain, **FULL)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # a witness
        assert len(archive.namelist()) > 3
    (entry,) = read(data).tensors
    assert data[entry.start : entry.stop] == stored_bytes(checkpoint["w"])
    assert "64-bit end" in reasons(data.replace(b"PK\6\6", b"PK\6\5"))
    assert "64-bit locator" in reasons(data.replace(b"PK\6\7", b"PK\6\5"))
    assert "are wanted" in reasons(data[data.rfind(b"PK\5\6") :])


@pytest.mark.parametrize("last", [{"disk": 2**16 - 1}, *({name: FULL[name]} for name in FULL)])
def test_one_number_that_does_not_fit_makes_all_64_bits_wide(last):
    assert len(read(ended_in_64_bits(rebuilt(saved({"w": torch.ones(5)})), **last)).tensors) == 1


def with_entries(data: bytes, change) -> bytes:
    """The same archive, but for the entries of its directory."""
    end = data.rfind(b"PK\5\6")
    n, _, start = struct.unpack_from("<HII", data, end + 10)
    entries, at = [], start
    for _ in range(n):
        n_name, n_extra, n_comment = struct.unpack_from("<3H", data, at + 28)
        stop = at + 46 + n_name + n_extra + n_comment
        entries.append((data[at : at + 46], data[at + 46 : at + 46 + n_name]))
        at = stop
    directory = b"".join(change(entries))
    last = bytearray(data[end:])
    struct.pack_into("<I", last, 12, len(directory))
    return data[:start] + directory + last


@pytest.mark.parametrize("fields", [(24, 20, 42), (42,), (24, 20), ()])
def test_records_whose_numbers_stand_in_64_bits_are_read(fields):
    def widened(entries):
        for entry, name in entries:
            head, numbers = bytearray(entry), b""
            for at in fields:  # size, packed size, place of the local header
                numbers += struct.pack("<Q", *struct.unpack_from("<I", head, at))
                head[at : at + 4] = b"\xff" * 4
            other = struct.pack("<2H3s", 0x7075, 3, b"\1\0\0")
            extra = other + struct.pack("<2H", 1, len(numbers)) + numbers
            struct.pack_into("<2H", head, 30, len(extra), 7)
            yield bytes(head) + name + extra + b"comment"

    checkpoint = {f"w{i}": torch.randn(40 + i) for i in range(5)}
    data = with_entries(rebuilt(saved(checkpoint)), widened)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # a witness
        assert len(archive.read("archive/data/0")) == 160
    report = read(data)
    assert report.problems == ()
    assert len(report.tensors) == 5
    for entry in report.tensors:
        assert data[entry.start : entry.stop] == stored_bytes(checkpoint[entry.name])


def test_a_directory_in_another_order_than_its_records_is_read():
    checkpoint = {f"w{i}": torch.randn(40 + i) for i in range(5)}
    data = with_entries(
        saved(checkpoint), lambda entries: (entry + name for entry, name in entries[::-1])
    )
    # The lengths of extra fields and comments are those of torch.save: none.
    report = read(data)
    assert report.problems == ()
    for entry in report.tensors:
        assert data[entry.start : entry.stop] == stored_bytes(checkpoint[entry.name])


@pytest.mark.parametrize(("bound", "value"), [("_MAX_DIRECTORY_BYTES", 100), ("_MAX_RECORDS", 2)])
def test_a_directory_without_measure_is_not_read(bound, value, monkeypatch):
    monkeypatch.setattr(f"crawler.zip_directory.{bound}", value)
    assert "out of bounds" in reasons(saved({"w": torch.ones(2)}))


def test_an_archive_that_was_cut_off_is_told():
    data = saved({"w": torch.ones(500)})
    assert "it was cut off" in reasons(data[:900])
    assert "it was cut off" in reasons(data[:-10])  # inside the last record of all


def test_an_error_of_the_reader_is_recorded():
    data = saved({"w": torch.ones(500_000)})

    def failing(path: str, start: int, stop: int) -> bytes:
        if start == 0:
            raise TruncatedError("the connection broke")
        return data[start:stop]

    report = read_headers(failing, [FileEntry(NAME, len(data))])
    assert [(p.code, p.reason) for p in report.problems] == [("truncated", "the connection broke")]
    short = read_headers(lambda p, a, b: data[a : b - 1], [FileEntry(NAME, len(data))])
    assert short.problems[0].code == "truncated"


# ---- lies in the pickle ----------------------------------------------------------------------


def program(
    name="w", kind="FloatStorage", key="0", words=6, offset=0, shape=(2, 3), strides=(3, 1)
):
    """The pickle of one tensor, as torch.save writes it, with numbers of one's own."""

    def text(word: str) -> bytes:
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def number(value: int) -> bytes:
        size = max((value.bit_length() + 8) // 8, 1)
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return (
        b"\x80\x02}" + text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage + number(words) + b"tQ" + number(offset) + numbers(shape) + numbers(strides)
        + b"\x89}tRs."
    )  # fmt: skip


def test_the_program_of_one_tensor_is_read():
    report = read(with_pickle(program(), _0=bytes(range(24))))
    assert report.problems == ()
    assert (report.tensors[0].name, report.tensors[0].shape) == ("w", (2, 3))


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"key": "1"}, "its storage is not in the archive"),
        ({"key": "../byteorder"}, "its storage is not in the archive"),
        ({"words": 7}, "has 24 bytes, not the 28 that are stated"),
        ({"offset": 1}, "reaches beyond its storage"),
        ({"offset": 1 << 60}, "reaches beyond its storage"),
        ({"offset": -1}, "offset is not usable"),
        ({"shape": (-2, 3)}, "shape or strides are not usable"),
        ({"shape": (1 << 63, 3)}, "shape or strides are not usable"),
        ({"shape": (1 << 40, 1 << 40)}, "reaches beyond its storage"),
        ({"shape": (2,) * 65, "strides": (1,) * 65}, "shape or strides are not usable"),
        ({"strides": (1, 2)}, "not stored row by row"),
        ({"strides": (3,)}, "shape or strides are not usable"),
        ({"kind": "QInt8Storage"}, "words of torch.QInt8Storage are not read"),
        ({"words": -6}, "its storage is not one of PyTorch's"),
    ],
)
def test_a_tensor_that_lies_about_its_place_is_passed_over_with_a_reason(lie, reason):
    report = read(with_pickle(program(**lie), _0=bytes(24)))
    assert report.tensors == ()
    assert reason in report.problems[0].reason


class Evil:
    def __reduce__(self):
        return eval, ("open('/tmp/herdbook-was-here', 'w')",)


def test_nothing_in_a_pickle_is_imported_or_called(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a global was looked up")

    checkpoint = {"w": torch.ones(3), "evil": Evil(), "also": [Evil()]}
    data = saved(checkpoint)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr("builtins.eval", refuse)
    report = read(data)
    assert [entry.name for entry in report.tensors] == ["w"]


def walk(code: bytes):
    return walk_pickle(code, "x").tensors


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"", "ends before its end"),
        (b"\x80\x02}", "ends before its end"),
        (b".", "stack is empty"),
        (b"(.", "stack is empty"),
        (b"(0.", "stack is empty"),
        (b"}(K\x01u.", "a key without a value"),
        (b"}u.", "a mark is missing"),
        (b"t.", "a mark is missing"),
        (b"h\x05.", "a place of the memo is empty"),
        (b"}r\xff\xff\xff\x7f.", "out of bounds"),
        (b"I1\n.", "opcode b'I' is not known"),
        (b"cos\nsystem", "a line without an end"),
        (b"K\x01K\x02\x93.", "a global without a name"),
        (b"X\xff\xff\xff\xffabc.", "ends before its end"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "ends before its end"),
        (b"\x8b\xff\xff\xff\xff.", "ends before its end"),
        (b"K\x01.", "is a value, not a dictionary"),
        (b"(" * 300_001, "stack grows too high"),
        (b"}0" * 200_000, "more than 300000 opcodes"),
    ],
)
def test_a_program_that_contradicts_itself_is_refused(code, reason):
    with pytest.raises(MalformedError, match=reason):
        walk(code)


@pytest.mark.parametrize("code", [b"]K\0K\1s0}.", b"K\1K\0K\1s0}.", b"}K\1a.", b"}(K\1e."])
def test_items_of_what_cannot_hold_them_are_passed_over(code):
    assert walk(code) == {}


def test_a_dictionary_that_holds_itself_ends():
    assert walk(b"}q\x00X\x01\x00\x00\x00ah\x00s.") == {}


def test_dictionaries_that_hold_each_other_many_times_end():
    # Twenty dictionaries, each with eight times the one before: 8^20 paths.
    code = b"}q\x00"
    for level in range(1, 21):
        keys = b"".join(
            b"X\x01\0\0\0" + bytes([97 + i]) + b"h" + bytes([level - 1]) for i in range(8)
        )
        code += b"}(" + keys + b"uq" + bytes([level])
    assert walk(code + b".") == {}


def test_a_checkpoint_with_two_copies_of_a_model_keeps_the_first():
    data = saved({"state_dict": {"w": torch.ones(2)}, "params_ema": {"w": torch.zeros(2)}})
    report = read(data)
    (entry,) = report.tensors
    assert data[entry.start : entry.stop] == stored_bytes(torch.ones(2))
    assert "1 tensors of other copies" in report.problems[0].reason


def test_parts_of_a_checkpoint_keep_their_names_apart():
    data = saved({"encoder": {"w": torch.ones(2)}, "decoder": {"w": torch.zeros(3)}, "n": {1: 2}})
    assert [entry.name for entry in read(data).tensors] == ["encoder.w", "decoder.w"]


def test_all_opcodes_that_python_writes_in_binary_are_known():
    text_only = {"INT", "LONG", "STRING", "UNICODE", "FLOAT", "GET", "PUT", "PERSID", "INST"}
    never = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "STOP"}
    missing = {op.name for op in pickletools.opcodes if ord(op.code) not in torch_pickle._STEPS}
    assert missing == text_only | never


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


@given(_VALUES, st.integers(2, 5))
def test_whatever_python_pickles_is_walked_to_its_end(value, protocol):
    assert walk(pickle.dumps({"value": value}, protocol=protocol)) == {}


@given(st.binary(max_size=300))
def test_random_programs_raise_nothing_else(code):
    try:
        walk(code)
    except MalformedError:
        return


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_flipped_byte_of_an_archive_is_read_or_refused(at, value):
    data = bytearray(saved({"w": torch.ones(3), "v": torch.ones(2, 2).half()}))
    data[at % len(data)] = value
    for entry in read(bytes(data)).tensors:
        assert 0 <= entry.start <= entry.stop <= len(data)


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((2, 3), (3, 1), True), ((2, 3), (1, 2), False), ((), (), True), ((0, 3), (9, 9), True),
        ((1, 3), (77, 1), True), ((3, 1), (1, 5), True), ((2, 3), (4, 1), False),
        ((2, 2, 2), (4, 2, 1), True), ((2, 2, 2), (2, 4, 1), False),
    ],
)  # fmt: skip
def test_contiguous_means_what_pytorch_means(shape, strides, expected):
    tensor = StoredTensor("F32", shape, strides, "0", 0, 100)
    assert tensor.is_contiguous is expected
    assert torch.as_strided(torch.zeros(200), shape, strides).is_contiguous() is expected


def test_a_name_without_measure_is_none():
    data = with_pickle(program(name="x" * 5000), _0=bytes(24))
    assert read(data).tensors == ()


def test_a_pickle_without_measure_is_not_read(monkeypatch):
    monkeypatch.setattr("crawler.torch_headers._MAX_PICKLE_BYTES", 50)
    assert "a pickle of" in reasons(saved({"w": torch.ones(2)}))


def test_ordered_dictionaries_of_python_2_and_parameters_with_attributes_are_read():
    name, tensor = b"X\x01\0\0\0w", program()[9:-2]
    (found,) = walk(b"ccollections\nOrderedDict\n(](](" + name + tensor + b"eetR.").items()
    assert (found[0], found[1].shape) == ("w", (2, 3))
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.note = "an attribute"
    (entry,) = read(saved({"w": parameter})).tensors
    assert entry.shape == (3,)


def test_names_of_classes_are_quoted_without_control_characters():
    with pytest.raises(MalformedError, match=r"'os\.a\\x1b\[31m'") as refusal:
        walk(b"cos\na\x1b[31m\n)\x81.")
    assert str(refusal.value).isprintable()


@given(st.integers(-(2**70), 2**70))
def test_numbers_are_what_python_wrote(value):
    machine = torch_pickle._Machine(pickle.dumps(value, protocol=2), "x")
    found = machine.run()
    assert found == value if -(2**63) <= value < 2**63 else found is not None


def test_bytes_of_two_values_need_a_dimension():
    tensor = StoredTensor("F4", (), (), "0", 0, 1, is_untyped=True)
    record = zip_record(1)
    assert "single byte of two values" in _unusable(tensor, record)


def zip_record(size_bytes: int) -> ZipRecord:
    return ZipRecord("a/data/0", 0, 200, size_bytes, True, False, 8)
