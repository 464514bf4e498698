"""Where parts lie: a local folder, or a place in an object store, behind one small interface.

A file appears under its name only when it is whole. In a local folder it is written under a partial
name, flushed to the disk and renamed; an object store has no rename, but shows an object only when
it was sent to its end, so it is made in a temporary file and then sent in one go.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from lineage.errors import HomeError, UsageError

__all__ = ["PartLocation", "as_location", "is_partial", "named_from_anywhere"]

_PARTIAL = ".partial"
_COPIED_AT_ONCE = 4 << 20

Produce = Callable[[pa.NativeFile], None]
"""Writes a file's content to an open stream."""


@dataclass(frozen=True)
class PartLocation:
    """A folder of a file system.

    Attributes
    ----------
    filesystem
        A pyarrow file system.
    root
        Folder in it, without a slash at the end.
    renames
        Whether a rename is atomic here.
    label
        What messages call it: no passwords.
    """

    filesystem: fs.FileSystem
    root: str
    renames: bool
    label: str

    @staticmethod
    def open(where: str | Path) -> PartLocation:
        """A local path, or an address that pyarrow knows: ``file://``, ``s3://``, ``gs://`` ….

        Raises
        ------
        UsageError
            If the address cannot be used.
        """
        address = str(where)
        if "://" not in address:
            path = Path(address).absolute()
            return PartLocation(fs.LocalFileSystem(), str(path), True, address)
        label = re.sub(r"//[^/@]*@", "//", address.partition("?")[0])
        try:
            filesystem, root = fs.FileSystem.from_uri(address)
        except (OSError, ValueError) as error:
            cause = str(error).replace(address, label)  # it may hold a password
            raise UsageError(f"cannot keep fingerprints in {label}: {cause}") from None
        is_local = isinstance(filesystem, fs.LocalFileSystem)
        return PartLocation(filesystem, root.rstrip("/"), is_local, label)

    @property
    def is_local(self) -> bool:
        """Whether paths are those of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, folder: str, name: str) -> str:
        """Path of a file in the file system."""
        return f"{self.root}/{folder}/{name}"

    def names(self, folder: str) -> dict[str, int]:
        """Files of a folder with their sizes in bytes; none if there is no such folder.

        Raises
        ------
        HomeError
            If the folder cannot be listed.
        """
        selector = fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        try:
            found = self.filesystem.get_file_info(selector)
        except OSError as error:
            raise HomeError(f"cannot list {self.label}/{folder}: {_cause(error)}") from error
        return {info.base_name: info.size for info in found if info.type == fs.FileType.File}

    def open_input(self, folder: str, name: str) -> pa.NativeFile:
        """A file open for reading anywhere in it; raises OSError as the file system does."""
        return self.filesystem.open_input_file(self.path(folder, name))

    def remove(self, folder: str, name: str) -> None:
        """Delete a file; one that is gone already is no error.

        Raises
        ------
        HomeError
            If it cannot be deleted.
        """
        try:
            self.filesystem.delete_file(self.path(folder, name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HomeError(
                f"cannot delete {self.label}/{folder}/{name}: {_cause(error)}"
            ) from error

    def write(self, folder: str, name: str, produce: Produce) -> int:
        """Write a file, whole or not at all, over one of the same name; returns its bytes.

        Raises
        ------
        HomeError
            If it cannot be written: disk full, quota, read-only, connection lost.
        """
        try:
            self.filesystem.create_dir(f"{self.root}/{folder}", recursive=True)
            if self.renames:
                return self._write_and_rename(folder, name, produce)
            return self._make_and_send(folder, name, produce)
        except OSError as error:
            raise HomeError(
                f"cannot write fingerprints to {self.label}: {_cause(error)}; nothing of this "
                "batch was stored. Free or grant space there, then run `herdbook fingerprint` "
                "again: it goes on where it stopped"
            ) from error

    def _write_and_rename(self, folder: str, name: str, produce: Produce) -> int:
        partial = self.path(folder, f".{name}.{uuid.uuid4().hex}{_PARTIAL}")
        try:
            stream = self.filesystem.open_output_stream(partial)
            try:
                produce(stream)
                n_bytes = int(stream.tell())
            except BaseException:
                with suppress(OSError):
                    stream.close()
                raise
            stream.close()
            if self.is_local:
                _flush(partial)
            self.filesystem.move(partial, self.path(folder, name))
            if self.is_local:
                _flush(os.path.dirname(partial))
        except BaseException:
            with suppress(OSError):
                self.filesystem.delete_file(partial)
            raise
        return n_bytes

    def _make_and_send(self, folder: str, name: str, produce: Produce) -> int:
        target = self.path(folder, name)
        with tempfile.TemporaryFile() as made:
            produce(made)
            n_bytes = made.tell()
            made.seek(0)
            try:
                with self.filesystem.open_output_stream(target) as sent:
                    shutil.copyfileobj(made, sent, _COPIED_AT_ONCE)
                arrived = self.filesystem.get_file_info(target).size
                if arrived != n_bytes:
                    raise OSError(f"{arrived} of {n_bytes} bytes arrived")
            except BaseException:
                # Closing a stream that failed may leave a shortened object behind.
                with suppress(OSError):
                    self.filesystem.delete_file(target)
                raise
        return n_bytes


def named_from_anywhere(where: str) -> str:
    """The same place for a process that works in another folder: a relative path made absolute."""
    return where if "://" in where else str(Path(where).absolute())


def as_location(where: PartLocation | str | Path) -> PartLocation:
    """`where`, opened if it is not."""
    return where if isinstance(where, PartLocation) else PartLocation.open(where)


def is_partial(name: str) -> bool:
    """Whether a file is what a kill left of one."""
    return name.endswith(_PARTIAL)


def _flush(path: str) -> None:
    """Bring a file or folder to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _cause(error: OSError) -> str:
    return error.strerror or str(error).partition("\n")[0][:300] or type(error).__name__
