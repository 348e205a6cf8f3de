"""Write the files of a folder in one pass in name order, so that the file system keeps no trace of where they came from.

Inode numbers, times, addresses on the disk and the order of listings then follow from the names alone. Files are never
linked or cloned: a link count or shared blocks would tell where a file came from.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


class UnusualFile(Exception):
    """A link, a pipe or another file that is not regular; the message names it."""


def write_folder(folder: Path, files: Mapping[str, Callable[[], bytes]]) -> None:
    """Write `files` (path below the folder -> what gives its content) into an empty folder."""
    names = sorted(files, key=os.fsencode)
    # All files are made before the first gets content, so that inode numbers and birth times do not depend on writing.
    for name in _with_folders(names):
        path = folder / name
        if name in files:
            path.touch(exist_ok=False)
        else:
            path.mkdir(exist_ok=True)
        path.chmod(0o644 if name in files else 0o755)  # whatever the umask
    for name in names:
        with (folder / name).open("r+b") as file:
            file.write(files[name]())
            file.flush()
            # The file system chooses the content's place only when it is written back: do that now, in this order.
            os.fsync(file.fileno())
    _even_times(folder, names)


def rewrite(*folders: Path) -> None:
    """Write all files of the folders anew, in one pass in name order. Their names and contents stay.

    A new file takes an old one's place in one step. So each file exists at every moment, and programs that have a folder
    open or mounted can go on. All copies are written before the first old file goes: copies in the gaps that old files
    leave would tell as much as those. Raises UnusualFile.
    """
    names = {folder: _regular_files(folder) for folder in folders}
    with ExitStack() as stack:
        copies = {folder: stack.enter_context(beside(folder)) for folder in folders}
        for folder, copy in copies.items():
            write_folder(copy, {name: (folder / name).read_bytes for name in names[folder]})
            give_to_owner(folder, (copy / name for name in names[folder]))
        for folder, copy in copies.items():
            for name in names[folder]:
                (copy / name).rename(folder / name)
            _even_times(folder, names[folder])


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Make a folder next to the target, readable by all like it; remove it at the end unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_folders(names: Sequence[str]) -> list[str]:
    """Return the paths and all their parent folders, the root as ".", in name order: each after its own folder."""
    return sorted({".", *names, *(str(parent) for name in names for parent in Path(name).parents)}, key=os.fsencode)


def _even_times(folder: Path, names: Sequence[str]) -> None:
    """Set all times to zero. The change time cannot be set: it becomes that of this loop, which reads and writes no file."""
    for name in _with_folders(names):
        os.utime(folder / name, ns=(0, 0))


def _regular_files(folder: Path) -> list[str]:
    names = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnusualFile(f"{path} is not a regular file: put a copy of what it stands for in its place")
        if path.is_file():
            names.append(str(path.relative_to(folder)))
    return sorted(names, key=os.fsencode)


def give_to_owner(folder: Path, paths: Iterable[Path]) -> None:
    """Give files that root wrote to the folder's owner."""
    if os.geteuid() == 0:
        state = folder.stat()
        for path in paths:
            os.chown(path, state.st_uid, state.st_gid)
