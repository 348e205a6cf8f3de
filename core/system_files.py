"""Files that macOS and Windows add to folders and archives by themselves."""

from collections.abc import Sequence

# "Icon\r" is Finder's, for a folder with an icon of its own.
_FILES = {".ds_store", "icon\r", "desktop.ini", "thumbs.db"}


def is_system_file(folders: Sequence[str], name: str) -> bool:
    """Return whether a file's name, or a folder that it lies in, is one that an operating system adds."""
    return "__MACOSX" in folders or name.startswith("._") or name.casefold() in _FILES
