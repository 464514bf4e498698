"""A file of this machine in memory, which may be replaced or cut short while it is read."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from crawler.errors import MalformedError, NotFoundError, TruncatedError

__all__ = ["FileState", "MappedFile"]


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's content does."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """The state that ``stat`` tells."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class MappedFile:
    """A file in memory, and the descriptor by which its length is looked at again."""

    def __init__(self, file: Path, path: str) -> None:
        try:
            # Neither a pipe nor a link that took the file's place is waited for or followed.
            self._descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            raise NotFoundError(f"no file {path}: {error.strerror}") from error
        try:
            found = os.fstat(self._descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise NotFoundError(f"{path} is no file")
            self.state = FileState.of(found)
            size = found.st_size  # an empty file cannot be mapped
            self._map = mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) if size else None
        except BaseException:
            os.close(self._descriptor)
            raise

    def cut(self, start: int, stop: int, path: str) -> bytes:
        """A copy of one span; to touch a page beyond the end of the file would kill the process."""
        if stop > self.state.size_bytes or self._map is None:
            raise MalformedError(
                f"{path} has {self.state.size_bytes} bytes, bytes {start}-{stop - 1} were wanted"
            )
        if os.fstat(self._descriptor).st_size < stop:
            raise TruncatedError(f"{path} was cut short before byte {stop} while it was read")
        return self._map[start:stop]

    def is_of(self, found: os.stat_result) -> bool:
        """Whether the file that now has the name is the one that is mapped."""
        return (found.st_dev, found.st_ino) == (self.state.device, self.state.inode)

    def now(self) -> FileState:
        """The state that the file is in now."""
        return FileState.of(os.fstat(self._descriptor))

    def close(self) -> None:
        """Unmap and close it."""
        if self._map is not None:
            self._map.close()
        os.close(self._descriptor)
