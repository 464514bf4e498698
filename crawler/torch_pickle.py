"""The pickle of a PyTorch checkpoint, walked without unpickling. Pure and bounded.

A pickle is a program for a small stack machine. It is walked here with inert values: nothing is
imported, called or instantiated. What the calls of PyTorch describe is told by
:mod:`crawler.torch_records`; everything else becomes one opaque value. The opcodes are those of
pickle's binary protocols 1 to 5 [1]_; text opcodes of protocol 0, which PyTorch's archives never
held, are refused.

References
----------
.. [1] CPython, ``Lib/pickletools.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from crawler.errors import MalformedError
from crawler.torch_records import (
    OPAQUE,
    ORDERED,
    Flattened,
    Global,
    Opaque,
    StoredTensor,
    called,
    flatten,
    storage_of,
)

__all__ = ["walk_pickle"]

_MAX_OPCODES = 300_000  # some thirty a tensor; walked in less than a second
_MAX_STACK = 200_000
_MAX_TEXT_BYTES = 4_096
_MAX_GLOBAL_CHARACTERS = 200


_KINDS: Mapping[type, str] = {StoredTensor: "a single tensor", list: "a list", tuple: "a tuple"}


class _Mark:
    """Separates arguments on the stack."""


_MARK: Final = _Mark()


def walk_pickle(data: bytes, path: str) -> Flattened:
    """Walk the pickle of a checkpoint.

    Raises
    ------
    MalformedError
        If the bytes are no pickle of a binary protocol, contradict the stack, exceed the bounds,
        or do not describe a dictionary.

    Examples
    --------
    >>> import pickle
    >>> walk_pickle(pickle.dumps({"epoch": 3}, protocol=2), "x").tensors
    {}
    """
    machine = _Machine(data, path)
    root = machine.run()
    if not isinstance(root, dict):
        what = root.what if isinstance(root, Opaque) else _KINDS.get(type(root), "a value")
        raise MalformedError(f"{path}: the checkpoint is {what}, not a dictionary of tensors")
    return flatten(root)


class _Machine:
    """The stack machine of pickle, on inert values."""

    def __init__(self, data: bytes, path: str) -> None:
        self.data = data
        self.path = path
        self.at = 0
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        """Walk to the end of the pickle; returns the value on top."""
        data, steps = self.data, _STEPS
        for _ in range(_MAX_OPCODES):
            if self.at >= len(data):
                raise self.error("it ends before its end")
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                return self.pop()
            step = steps.get(code)
            if step is None:
                raise self.error(f"opcode {bytes([code])!r} is not known")
            step(self)
            if len(self.stack) > _MAX_STACK:
                raise self.error("its stack grows too high")
        raise self.error(f"more than {_MAX_OPCODES} opcodes")

    def error(self, what: str) -> MalformedError:
        """What is wrong with the pickle."""
        return MalformedError(f"{self.path}: its pickle cannot be walked: {what}")

    def take(self, size_bytes: int) -> bytes:
        """The next bytes of the program."""
        stop = self.at + size_bytes
        if stop > len(self.data):
            raise self.error("it ends before its end")
        found = self.data[self.at : stop]
        self.at = stop
        return found

    def number(self, form: struct.Struct) -> int:
        """A number of fixed width."""
        (value,) = form.unpack(self.take(form.size))
        return int(value)

    def line(self) -> str:
        """Text up to the end of a line."""
        stop = self.data.find(b"\n", self.at, self.at + 1024)
        if stop < 0:
            raise self.error("a line without an end")
        found = self.data[self.at : stop].decode("utf-8", "replace")
        self.at = stop + 1
        return found

    def pop(self) -> object:
        """Take the value on top."""
        if not self.stack or self.stack[-1] is _MARK:
            raise self.error("its stack is empty")
        return self.stack.pop()

    def top(self) -> object:
        """Look at the value on top."""
        if not self.stack or self.stack[-1] is _MARK:
            raise self.error("its stack is empty")
        return self.stack[-1]

    def pop_to_mark(self) -> list[object]:
        """Take the values above the last mark, and the mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                found = self.stack[at + 1 :]
                del self.stack[at:]
                return found
        raise self.error("a mark is missing")

    def push(self, value: object) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def remember(self, number: int) -> None:
        """Enter the value on top in the memo."""
        if number > _MAX_OPCODES:
            raise self.error("a place of the memo is out of bounds")
        self.memo[number] = self.top()

    def recall(self, number: int) -> None:
        """Put a value of the memo on top."""
        if number not in self.memo:
            raise self.error("a place of the memo is empty")
        self.stack.append(self.memo[number])

    def push_global(self, module: object, name: object) -> None:
        """Put a name that would be imported on top."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.error("a global without a name")
        found = f"{module}.{name}"[:_MAX_GLOBAL_CHARACTERS]
        self.push(Global(found if found.isprintable() else ascii(found)))


def _text(machine: _Machine, size_bytes: int) -> None:
    if size_bytes > _MAX_TEXT_BYTES:
        machine.take(size_bytes)
        machine.push(OPAQUE)
    else:
        machine.push(machine.take(size_bytes).decode("utf-8", "replace"))


def _opaque(machine: _Machine, size_bytes: int) -> None:
    machine.take(size_bytes)
    machine.push(OPAQUE)


def _long(machine: _Machine, size_bytes: int) -> None:
    data = machine.take(size_bytes)
    machine.push(int.from_bytes(data, "little", signed=True) if size_bytes <= 8 else OPAQUE)


def _tuple(size: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.push(tuple(machine.pop() for _ in range(size))[::-1])

    return step


def _set_items(machine: _Machine, items: list[object]) -> None:
    if len(items) % 2:
        raise machine.error("a key without a value")
    target = machine.top()
    if not isinstance(target, dict):
        return
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Other keys could be slow to hash, and none of them is a tensor's name.
        if type(key) is str or type(key) is int:
            target[key] = value


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _append(machine: _Machine, items: list[object]) -> None:
    target = machine.top()
    if isinstance(target, list):
        target.extend(items)


def _append_one(machine: _Machine) -> None:
    value = machine.pop()
    _append(machine, [value])


def _dictionary(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.push({})
    _set_items(machine, items)


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.push(called(function, arguments))


def _new_object(machine: _Machine) -> None:
    machine.pop()
    kind = machine.pop()
    name = kind.name if isinstance(kind, Global) else "no name"
    machine.push({} if name == ORDERED else Opaque(f"an object of {name}"))


def _new_object_with_keywords(machine: _Machine) -> None:
    machine.pop()
    _new_object(machine)


def _build(machine: _Machine) -> None:
    machine.pop()  # attributes: of a dictionary of tensors, the versions of its modules
    machine.top()


def _persistent(machine: _Machine) -> None:
    machine.push(storage_of(machine.pop()))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_global(module, name)


def _discard_to_mark(machine: _Machine) -> None:
    machine.pop_to_mark()


def _object(machine: _Machine) -> None:
    machine.pop_to_mark()
    machine.push(OPAQUE)


def _add_items(machine: _Machine) -> None:
    machine.pop_to_mark()
    machine.top()


_U8, _U16, _I32, _U32, _U64 = map(struct.Struct, ("<B", "<H", "<i", "<I", "<Q"))
_STOP = ord(".")
_STEPS: Mapping[int, Callable[[_Machine], None]] = {
    code[0]: step
    for code, step in {
        b"\x80": lambda m: m.number(_U8) and None,  # PROTO
        b"\x95": lambda m: m.number(_U64) and None,  # FRAME
        b"(": lambda m: m.push(_MARK),
        b"0": lambda m: m.pop() and None,
        b"1": _discard_to_mark,
        b"2": lambda m: m.push(m.top()),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"J": lambda m: m.push(m.number(_I32)),
        b"K": lambda m: m.push(m.number(_U8)),
        b"M": lambda m: m.push(m.number(_U16)),
        b"\x8a": lambda m: _long(m, m.number(_U8)),
        b"\x8b": lambda m: _long(m, m.number(_U32)),
        b"G": lambda m: _opaque(m, 8),
        b"X": lambda m: _text(m, m.number(_U32)),
        b"\x8c": lambda m: _text(m, m.number(_U8)),
        b"\x8d": lambda m: _text(m, m.number(_U64)),
        b"U": lambda m: _text(m, m.number(_U8)),  # texts of Python 2
        b"T": lambda m: _text(m, m.number(_U32)),
        b"C": lambda m: _opaque(m, m.number(_U8)),
        b"B": lambda m: _opaque(m, m.number(_U32)),
        b"\x8e": lambda m: _opaque(m, m.number(_U64)),
        b"\x96": lambda m: _opaque(m, m.number(_U64)),
        b")": lambda m: m.push(()),
        b"t": lambda m: m.push(tuple(m.pop_to_mark())),
        b"\x85": _tuple(1),
        b"\x86": _tuple(2),
        b"\x87": _tuple(3),
        b"]": lambda m: m.push([]),
        b"l": lambda m: m.push(m.pop_to_mark()),
        b"a": _append_one,
        b"e": lambda m: _append(m, m.pop_to_mark()),
        b"}": lambda m: m.push({}),
        b"d": _dictionary,
        b"s": _set_item,
        b"u": lambda m: _set_items(m, m.pop_to_mark()),
        b"\x8f": lambda m: m.push(OPAQUE),  # a set
        b"\x90": _add_items,
        b"\x91": _object,
        b"q": lambda m: m.remember(m.number(_U8)),
        b"r": lambda m: m.remember(m.number(_U32)),
        b"\x94": lambda m: m.remember(len(m.memo)),
        b"h": lambda m: m.recall(m.number(_U8)),
        b"j": lambda m: m.recall(m.number(_U32)),
        b"c": lambda m: m.push_global(m.line(), m.line()),
        b"\x93": _stack_global,
        b"R": _reduce,
        b"b": _build,
        b"o": _object,
        b"\x81": _new_object,
        b"\x92": _new_object_with_keywords,
        b"Q": _persistent,
    }.items()
}
