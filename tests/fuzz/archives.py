"""Seeds and broken cases of PyTorch archives, their pickles, and ONNX models.

All of it is written here, byte by byte: neither PyTorch nor onnx is needed to fuzz.
"""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Sequence

_EXTREMES = (0, 1, 2, 3, 7, 8, 13, 0x7F, 0xFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62,
             2**63, 2**64 - 1)  # fmt: skip


def _text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def _tensor(key: int, shape: Sequence[int], kind: str = "FloatStorage") -> bytes:
    """A tensor of float32 as torch.save writes it, without its memo."""
    rows, columns = shape
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + _text("storage") + f"ctorch\n{kind}\n".encode()
        + _text(str(key)) + _text("cpu") + b"K" + bytes([rows * columns]) + b"tQK\0(K"
        + bytes([rows]) + b"K" + bytes([columns]) + b"t(K" + bytes([columns])
        + b"K\1t\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def _checkpoint(n: int, *, nested: bool) -> bytes:
    items = b"".join(_text(f"layers.{at}.w") + _tensor(at, (2, 3)) for at in range(n))
    inner = b"ccollections\nOrderedDict\n)Rq\1(" + items + b"u}" + _text("_metadata") + b"h\1sb"
    if not nested:
        return b"\x80\x02" + inner + b"."
    return b"\x80\x02}q\2(" + _text("epoch") + b"K\3" + _text("state_dict") + inner + b"u."


def _archive(program: bytes, n: int, *, shift: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (
            ("data.pkl", program), ("byteorder", b"little"),
            *((f"data/{at}", bytes(24 + shift)) for at in range(n)), ("version", b"3\n"),
        ):  # fmt: skip
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return file.getvalue()


PICKLES = (
    _checkpoint(3, nested=False),
    _checkpoint(4, nested=True),
    *(pickle.dumps({"a": [1, 2.5, None], "b": ("x", b"y", {3, 4})}, protocol=p) for p in (2, 4, 5)),
)
ARCHIVES = (
    _archive(PICKLES[0], 3),
    _archive(PICKLES[1], 4),
    _archive(PICKLES[0], 3, shift=4),
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",  # a bare pickle's magic number
)


def _varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def _field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return _varint(number << 3) + _varint(data)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _body(name: str, more: bytes) -> bytes:
    return _field(1, 2) + _field(1, 3) + _field(2, 1) + _field(8, name.encode()) + more


def _initialiser(name: str, more: bytes) -> bytes:
    return _field(5, _body(name, more))


_PLACE = b"".join(
    _field(13, _field(1, key) + _field(2, value))
    for key, value in ((b"location", b"d"), (b"offset", b"4096"), (b"length", b"24"))
)
_NODE = _field(1, _field(1, b"x") + _field(2, b"y") + _field(3, b"/layer/MatMul"))
MODELS = (
    _field(1, 8) + _field(7, _NODE * 3 + _initialiser("a", _field(9, bytes(24)))),
    _field(7, _initialiser("a", _PLACE + _field(14, 1)) + _initialiser("b", _field(4, bytes(24)))),
)


def broken_bytes(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """A seed with numbers that lie, pieces of others, bytes flipped, cut or repeated."""
    data = bytearray(rng.choice(pool)[:limit])
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        _break(rng, data, pool)
    return bytes(data[:limit])


def broken_onnx(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """A broken model, or broken initialisers in a model whose lengths are right."""
    if rng.random() < 0.4:
        return broken_bytes(rng, pool, limit)
    bodies = _body("a", _PLACE + _field(14, 1)), _body("b", _field(9, bytes(24)))
    items = [_field(5, broken_bytes(rng, bodies, limit // 4)) for _ in range(rng.choice((1, 2, 3)))]
    return _field(7, _NODE + b"".join(items))


def _break(rng: random.Random, data: bytearray, pool: Sequence[bytes]) -> None:
    what = rng.randrange(6)
    at = rng.randrange(len(data) + 1)
    if what == 0:
        form = rng.choice(("<B", "<H", "<I", "<Q"))
        size = struct.calcsize(form)
        if len(data) >= size:
            at = min(at, len(data) - size)
            struct.pack_into(form, data, at, rng.choice(_EXTREMES) % 256**size)
    elif what == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif what == 2:
        data[at : at + rng.choice((0, 1, 2))] = _varint(rng.choice(_EXTREMES))
    elif what == 3:
        del data[at : at + rng.choice((1, 2, 10, 100))]
    elif what == 4:
        piece = bytes(data[at : at + rng.choice((1, 4, 30, 200))])
        data[at:at] = piece * rng.choice((1, 2, 30))
    else:
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + rng.choice((1, 5, 50))]


def broken_archive(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """An archive around a broken pickle, or a broken archive."""
    if rng.random() < 0.4:
        return _archive(broken_bytes(rng, PICKLES, limit), 4)[: limit + 2_000]
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.5 and len(data) > 60:
            # The directory and the last record, where most that is believed stands.
            form = rng.choice(("<H", "<I"))
            at = len(data) - rng.randrange(4, min(len(data), 600))
            at = min(at, len(data) - struct.calcsize(form))
            value = rng.choice((*_EXTREMES, len(data), len(data) - 22))
            struct.pack_into(form, data, at, value % 256 ** struct.calcsize(form))
        else:
            _break(rng, data, pool)
    return bytes(data[:limit])


def large_pickle(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """One thing of a pickle again and again, after the beginning of a seed."""
    seed = rng.choice(pool)
    unit = rng.choice(
        (b"(", b"}", b"]", b"N0", b"2", b"h\1", b"t(", b"}q\1", b"h\1h\1\x86q\1", b"K\1\x85",
         _text("a" * 50) + b"N", _text("k") + _tensor(0, (2, 3)), b"X\xff\xff\0\0" + bytes(65_535),
         b"\x8b\xff\xff\0\0" + bytes(65_535), b"cos\nsystem\n",
         b"}(" + _text("a") + b"h\1uq\1", seed)
    )  # fmt: skip
    opening = rng.choice(
        (b"\x80\x02}q\1(", b"\x80\x02]q\1(", b"", seed[: rng.randrange(len(seed))])
    )
    return opening + unit * (size_bytes // len(unit)) + rng.choice((b"u.", b".", b""))


def large_archive(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """An archive with a large pickle, or with very many records."""
    if rng.random() < 0.5:
        return _archive(large_pickle(rng, PICKLES, size_bytes), 3)
    n = min(size_bytes // 110, 65_535)
    entry = struct.Struct("<4s6H3I5H2I")
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    names = [f"archive/data/{at}".encode() for at in range(n)]
    directory = b"".join(
        entry.pack(b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 60 * at) + name
        for at, name in enumerate(names)
    )
    start = len(local) * 2 * n
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(directory), start, 0)
    return local * 2 * n + directory + end


def large_onnx(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """A graph of very many nodes, initialisers, dimensions or entries of their place."""
    unit = rng.choice(
        (_NODE, _field(1, b""), _initialiser("a", _field(9, bytes(24))), _field(5, b""),
         _field(8, 1), _field(5, _field(1, 1) * 64), _field(5, _PLACE * 20), _field(15, b""),
         _initialiser("b", _field(9, bytes(1 << 16))))
    )  # fmt: skip
    graph = unit * (size_bytes // len(unit))
    if rng.random() < 0.3:
        graph = _field(5, graph)
    return _field(7, graph) + (rng.choice(pool) if rng.random() < 0.2 else b"")
