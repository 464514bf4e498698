"""Seeded cases: the seeds of a parser, broken in the ways in which real files break, and worse.

A case is a function of (target, seed, index) and of the corpus alone: any of them can be made again
without those before it, in any process.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Sequence

SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES, HUGE_BYTES = 8 << 10, 64 << 10, 4 << 20, 50 << 20
# One case in so many is of that size: the last of each round, so that short runs have none.
MEDIUM_EVERY, LARGE_EVERY, HUGE_EVERY = 100, 5_000, 50_000

NUMBERS = (
    b"0", b"-1", b"255", b"2147483648", b"4294967296", b"9007199254740993",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616",
    b"-9223372036854775809",
    b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-Infinity", b"0x7f", b"1_000",
    b"1:30:45",
    b".5", b"1e15", b"9" * 400, b"9" * 5_000,
)  # fmt: skip
TOKENS = (
    b"&a ", b"*a", b"&a [*a,*a]", b"<<: *a", b"!!python/object/apply:os.system ['id']",
    b"!!binary |",
    b"\t", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n---\n", b"\n...\n", b"? ", b"- ", b": ", b"{", b"}",
    b"[", b"]", b"|\n", b">-\n", b"#", b"%YAML 1.1\n", b"'", b'"', b"```yaml\n", b"```\n", b"~~~\n",
    b"<!--", b"-->", b"\x00", b"\x1b[2J", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x9f\xa6\x99", b"\xff\xfe", b"\xc0\xaf", b"\\ud800",
    b"\\u0000", b"\\", b"../", b"..\\", b"/etc/passwd", b"C:\\models\\", b"models--a--b",
    b"'; DROP TABLE models; --", b"https://huggingface.co/", b"a/b", b"a/b\n", b"a/b@main",
    b"a" * 97,
    b"base_model: ", b"merge_method: linear\n", b"models:\n", b"slices:\n", b"model-index:\n",
    b"fine-tuned from ", b"merge of ", b"based on ", b"license: no\n", b"null", b"~", b"true",
    b"quantized version of ", b"[x](", b"](https://hf.co/a/b)", b"`a/b`", b"href=\"", b"&amp;",
    b"%",
)  # fmt: skip
_WORDS = (
    "", " ", "~", "null", "a/b", "a/b\n", "../../etc/passwd", "a/../b", "x" * 10_000, "\ud800",
    "\udfff\ud800", "\x00", "\x1b[31m", "\u202eb/a", "\u2028", "é" * 300, "a" * 97, "🦙", "None",
    "2024-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "F32",
    "base_model:finetune:a/b", "base_model:" + "a/" * 500, "1e999", "73.2%", "gptq", "-", "[1, 2",
    "https://huggingface.co/a/b?x#y", "models--a--b--c", "C:\\a\\b", "'; DROP TABLE models; --",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400,
    1e308, -1e308, 5e-324, float("inf"), float("nan"), [], {}, [[]], {"": None}, [None], "",
)  # fmt: skip


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    starts = [at for at in range(len(data)) if data[at : at + 1].isdigit()][:2_000]
    if starts:
        at = stop = rng.choice(starts)
        while stop < len(data) and data[stop : stop + 1].isdigit():
            stop += 1
        data[at:stop] = rng.choice(NUMBERS)


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _n in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(TOKENS) * rng.choice((1, 1, 1, 2, 3, 10, 100))


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 10, 100, len(data)))]


def _splice(rng: random.Random, data: bytearray, pool: Sequence[bytes]) -> None:
    other = rng.choice(pool)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((16, 100, 1_000, 4_000))]
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 0, len(piece)))] = piece


def _lines(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    lines = bytes(data).split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(5)
    if what == 0:
        lines.insert(to, lines[at])
    elif what == 1:
        del lines[at]
    elif what == 2:
        lines[at], lines[to] = lines[to], lines[at]
    elif what == 3:
        lines[at : at + 1] = [lines[at]] * rng.choice((2, 10, 100))
    else:
        lines[at] = b" " * rng.choice((1, 2, 3, 8, 60)) + lines[at].lstrip()
    data[:] = b"\n".join(lines)


def _whole(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    what = rng.randrange(5)
    if what == 0:
        data[:] = bytes(data).replace(b"\n", b"\r\n")
    elif what == 1:
        data[:] = bytes(data).replace(b"\n", b"\r")
    elif what == 2:
        data[:0] = b"\xef\xbb\xbf"
    elif what == 3:
        data[:] = bytes(data).replace(b"  ", b"\t")
    else:
        data[:] = bytes(data).replace(b"---", rng.choice((b"", b"--", b"--- ", b"----", b"...")), 1)


def _nest(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    opening, closing = rng.choice(
        ((b"[", b"]"), (b"{a: ", b"}"), (b'{"a":', b"}"), (b"- ", b""), (b"(", b")"), (b"> ", b""),
         (b"<!--", b"-->"), (b"a:\n ", b""), (b"**", b"**"), (b"[a](", b")"))
    )  # fmt: skip
    depth = rng.choice((2, 10, 60, 300, 1_200))
    at = rng.randrange(len(data) + 1)
    data[at:at] = opening * depth + b"x" + closing * rng.choice((depth, depth, 0))


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    piece = bytes(data[at : at + rng.choice((1, 2, 5, 20, 80))])
    if rng.random() < 0.3 or not piece:
        piece = rng.choice(TOKENS)
    data[at:at] = piece * rng.choice((10, 100, 1_000))


_STEPS: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _insert, _insert, _cut, _splice, _lines, _lines, _whole, _nest, _repeat, _number,
)  # fmt: skip


def broken_text(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """One of `pool`, cut to `limit` bytes and broken one to six times."""
    data = bytearray(rng.choice(pool)[:limit])
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        rng.choice(_STEPS)(rng, data, pool)
        del data[limit:]
    return bytes(data)


def _value(rng: random.Random) -> object:
    kind = rng.randrange(10)
    if kind < 4:
        return copy.deepcopy(rng.choice(_VALUES))
    if kind < 8:
        return rng.choice(_WORDS)
    value: object = rng.choice(_WORDS)
    if kind == 8:
        for _ in range(rng.choice((2, 20, 120, 300, 900))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return [value] * rng.choice((2, 100, 600))


def broken_value(rng: random.Random, value: object) -> object:
    """`value`, parsed from JSON anew for every case, with one to four of its nodes replaced."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        node, holder, key = value, None, None
        while isinstance(node, dict | list) and node and (holder is None or rng.random() < 0.8):
            holder = node
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            node = node[key]
        if holder is None:
            return _value(rng)
        what = rng.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, list):
            holder.append(node)
        elif what == 2 and isinstance(holder, dict):
            holder[rng.choice(_WORDS)] = holder[key]
        elif what == 3 and isinstance(holder, dict):
            other = rng.choice(list(holder))
            holder[key], holder[other] = holder[other], holder[key]
        else:
            holder[key] = _value(rng)
    return value


def _dumped(rng: random.Random, value: object) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    except RecursionError:
        return b"[" * 2_000
    return text.encode("utf-8", "surrogatepass")


def broken_json(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """JSON with nodes replaced; one in four broken as a text as well or instead."""
    if rng.random() < 0.2:
        return broken_text(rng, pool, limit)
    try:
        value = json.loads(rng.choice(pool))
    except ValueError:
        return broken_text(rng, pool, limit)
    data = _dumped(rng, broken_value(rng, value))
    return broken_text(rng, [data], limit) if rng.random() < 0.06 else data[: max(limit, 64 << 10)]


def broken_safetensors(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """A head of a safetensors file: the JSON broken, the length mostly right."""
    heads = [seed[8:] for seed in pool]
    data = broken_json(rng, heads, limit)
    length = len(data)
    if rng.random() < 0.1:
        length = rng.choice(
            (0, 1, length - 1, length + 1, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1)
        )
    return struct.pack("<Q", length % 2**64) + data


_EXTREMES = (0, 1, 2, 3, 7, 8, 9, 13, 255, 1023, 1025, 65_535, 2**24, 2**31, 2**32 - 1, 2**62,
             2**63, 2**64 - 1)  # fmt: skip


def broken_gguf(rng: random.Random, pool: Sequence[bytes], limit: int) -> bytes:
    """A head of a GGUF file: one that is there or a new one, with numbers that lie."""
    if rng.random() < 0.5:
        data = bytearray(_new_gguf(rng))
    else:
        data = bytearray(rng.choice(pool)[: rng.choice((100, 1_000, limit))])
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        form, bits = rng.choice((("<I", 32), ("<Q", 64)))
        n = struct.calcsize(form)
        # Most fields that lie are near the beginning: counts, lengths, types.
        most = max(len(data) - n, 0)
        at = min(rng.choice((rng.randrange(most + 1), rng.randrange(64))), most)
        if len(data) >= n:
            struct.pack_into(form, data, at, rng.choice(_EXTREMES) % 2**bits)
    if rng.random() < 0.3:
        rng.choice((_flip, _cut, _splice))(rng, data, pool)
    return bytes(data[:limit])


def _text(word: str) -> bytes:
    data = word.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data


def _new_gguf(rng: random.Random) -> bytes:
    metadata = [_text(_key(rng)) + _typed(rng, 0) for _ in range(rng.randrange(8))]
    tensors = [
        _text(rng.choice((f"blk.{n}.w", rng.choice(_WORDS)))) + _placed(rng)
        for n in range(rng.randrange(6))
    ]
    counts = [len(tensors), len(metadata)]
    if rng.random() < 0.1:
        counts[rng.randrange(2)] = rng.choice(_EXTREMES)
    head = b"GGUF" + struct.pack("<IQQ", rng.choice((2, 3, 3, 3, 1)), *counts)
    return head + b"".join(metadata) + b"".join(tensors)


def _key(rng: random.Random) -> str:
    part = rng.choice(("name", "organization", "repo_url"))
    return rng.choice(
        ("general.architecture", "general.alignment",
         f"general.base_model.{rng.randrange(4)}.{part}", "general.source.url",
         "general.source.huggingface.repository", rng.choice(_WORDS))
    )  # fmt: skip


def _typed(rng: random.Random, depth: int) -> bytes:
    kind = rng.choice((4, 6, 7, 8, 8, 8, 9, 9, 10, 12, 13))
    if kind == 8:
        return struct.pack("<I", 8) + _text(rng.choice(_WORDS))
    if kind == 9:
        n = rng.randrange(4)
        items = [_typed(rng, depth + 1) for _ in range(n)] if depth < 6 else []
        inner = struct.unpack("<I", items[0][:4])[0] if items else 8
        stated = rng.choice((n, n, n, rng.choice(_EXTREMES)))
        return struct.pack("<IIQ", 9, inner, stated) + b"".join(item[4:] for item in items)
    return struct.pack("<I", kind) + rng.randbytes({4: 4, 6: 4, 7: 1}.get(kind, 8))


def _placed(rng: random.Random) -> bytes:
    n = rng.choice((0, 1, 2, 2, 2, 8, 9))
    shape = [rng.choice((1, 32, 256, 4096, rng.choice(_EXTREMES))) for _ in range(n)]
    kind = rng.choice((0, 1, 8, 12, 30, 31, 2**31))
    return struct.pack(f"<I{n}QIQ", n, *shape, kind, rng.choice((0, 32, 4096, *_EXTREMES)))


def large_text(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """Up to `size_bytes` of one thing again and again, after the beginning of a seed."""
    seed = rng.choice(pool)
    start = rng.randrange(len(seed) + 1)
    unit = rng.choice(
        (seed, seed[start : start + rng.choice((1, 3, 20, 200))], rng.choice(TOKENS),
         rng.choice(TOKENS) + rng.choice(TOKENS), rng.choice(TOKENS) + b"\n", b"[],", b"{},",
         b'{"a":0},', b'"ab",', b"300,", b"- a/b\n", b"a: b\n", b"a/b ", b"# x\n\n")
    )  # fmt: skip
    opening = rng.choice((b"", b"", b"---\n", b"[", b'{"a":[', b"```yaml\n", seed[:start]))
    unit = unit or b"x"
    body = opening + unit * ((size_bytes - len(opening)) // len(unit))
    for begin, end in ((b"[", b"]"), (b'{"a":[', b"]}")):
        if opening == begin:
            return body.rstrip(b",") + end
    return body


def large_json(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """JSON with one list or mapping that holds the same, or nearly the same, very often."""
    if rng.random() < 0.3:
        return large_text(rng, pool, size_bytes)
    value = json.loads(rng.choice(pool))
    nodes: list[object] = [value]
    for node in nodes:
        if isinstance(node, dict | list):
            nodes += [
                item
                for item in (node.values() if isinstance(node, dict) else node)
                if isinstance(item, dict | list)
            ]
    node = rng.choice(nodes)
    item = rng.choice((copy.deepcopy(node), _value(rng)))
    n = size_bytes // (len(_dumped(rng, item)) + 8)
    if isinstance(node, list):
        node += [item] * n
    elif isinstance(node, dict):
        node.update((f"{rng.choice(_WORDS)[:20]}{at}", item) for at in range(n))
    return _dumped(rng, value)[:size_bytes]


def large_safetensors(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """A head of so many tensors, or of anything else that is JSON."""
    if rng.random() < 0.4:
        data = large_json(rng, [seed[8:] for seed in pool], size_bytes)
    else:
        shape = rng.choice(([], [1], [1] * 64))
        n_bytes = 4 if shape or rng.random() < 0.5 else 0
        entry = json.dumps({"dtype": "F32", "shape": shape, "data_offsets": [0, n_bytes]})
        n = size_bytes // (len(entry) + 12)
        data = ("{" + ",".join(f'"t{at}":{entry}' for at in range(n)) + "}").encode()
    return struct.pack("<Q", len(data)) + data


def large_gguf(rng: random.Random, pool: Sequence[bytes], size_bytes: int) -> bytes:
    """Many tensors, many metadata, one long array, or one long text."""
    what = rng.randrange(5)
    if what == 0:
        n = size_bytes // 48
        table = b"".join(_text(f"t{at}") + struct.pack("<IQIQ", 1, 0, 0, 0) for at in range(n))
        return b"GGUF" + struct.pack("<IQQ", 3, n, 0) + table
    if what == 1:
        n = min(size_bytes // 40, 65_536)
        pairs = b"".join(_text(f"k{at}") + struct.pack("<IQ", 10, at) for at in range(n))
        return b"GGUF" + struct.pack("<IQQ", 3, 0, n) + pairs
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _text("a")
    if what == 2:
        n = size_bytes // 8
        return head + struct.pack("<IIQ", 9, 8, n) + bytes(8 * n)
    if what == 3:
        n = min(size_bytes, 16 << 20)
        return head + struct.pack("<IQ", 8, n) + b"\x00\xff" * (n // 2)
    inner = struct.pack("<IQ", 8, 1_000) + bytes(8_000)
    n = min(size_bytes // len(inner), 1_024)
    return head + struct.pack("<IIQ", 9, 9, n) + inner * n
