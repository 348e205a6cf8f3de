"""Writing what comes out of an archive, below one open folder and nowhere else."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """Every step is taken from the folder's descriptor, one name at a time, never through a link."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def add_directory(self, path: str) -> None:
        os.close(self._open_directory(path.split("/")))

    def add_file(self, path: str, chunks: Iterable[bytes], *, is_executable: bool) -> None:
        *parents, name = path.split("/")
        parent = self._open_directory(parents)
        try:
            descriptor = os.open(name, _CREATE_FILE, 0o600, dir_fd=parent)
        finally:
            os.close(parent)
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                _write_fully(file.fileno(), chunk)
            # Said outright: the mode in os.open goes through the process's umask.
            os.fchmod(descriptor, 0o755 if is_executable else 0o644)

    def _open_directory(self, parts: list[str]) -> int:
        descriptor = os.dup(self._descriptor)
        for part in parts:
            parent = descriptor
            try:
                try:
                    os.mkdir(part, 0o700, dir_fd=parent)
                    is_new = True
                except FileExistsError:
                    is_new = False
                descriptor = os.open(part, _OPEN_DIRECTORY, dir_fd=parent)
            finally:
                os.close(parent)
            if is_new:
                os.fchmod(descriptor, 0o755)
        return descriptor


def _write_fully(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def filled_folder(destination: Path) -> Iterator[Folder]:
    """A Folder on an empty directory, which is empty again when anything goes wrong inside."""
    descriptor = os.open(destination, _OPEN_DIRECTORY)
    try:
        if os.listdir(descriptor):
            raise ValueError(f"{destination} is not empty")
        try:
            yield Folder(descriptor)
        except BaseException:
            _clear(descriptor)
            raise
    finally:
        os.close(descriptor)


def _clear(descriptor: int) -> None:
    with os.scandir(descriptor) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.name, dir_fd=descriptor)
        else:
            os.unlink(entry.name, dir_fd=descriptor)
