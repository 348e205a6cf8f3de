"""Names of files that macOS and Windows add to folders and archives by themselves."""

# "Icon\r" is Finder's, for a folder with an icon of its own.
_FILES = {".ds_store", "icon\r", "desktop.ini", "thumbs.db"}


def is_junk(path: str) -> bool:
    """Return whether a system added the file; a folder's path ends in a slash."""
    *folders, last = path.split("/")
    return "__MACOSX" in folders or last.startswith("._") or last.casefold() in _FILES
