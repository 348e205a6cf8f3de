"""Bytes looked for in a buffer: by the C library, which is faster than the interpreter and lets other threads run."""

import ctypes
import mmap

_memmem = getattr(ctypes.CDLL(None), "memmem", None)
if _memmem is not None:
    _memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    _memmem.restype = ctypes.c_void_p


def find(buffer: bytes | bytearray | mmap.mmap, wanted: bytes, end: int, *, start: int = 0) -> int:
    """Where the bytes first stand from `start` on and before `end`, -1 for nowhere: `buffer.find(wanted, start, end)`. The
    buffer keeps its size."""
    if _memmem is None or not 0 <= start < end <= len(buffer):
        return buffer.find(wanted, start, end)
    if isinstance(buffer, bytes):
        begin = ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    else:
        first = ctypes.c_char.from_buffer(buffer)
        begin = ctypes.addressof(first)
    found: int | None = _memmem(begin + start, end - start, wanted, len(wanted))
    return -1 if found is None else found - begin
