"""Sizes as people read them: `16 GiB`, `1.5 MiB`, `300 B`. JSON fields keep exact numbers of bytes.

`client.pyz` has this module too, so it needs no more than Python 3.9.
"""

KIB, MIB, GIB = 1024, 1024**2, 1024**3
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: float) -> str:
    """Return the size in the largest binary unit that it fills, with one decimal below a hundred."""
    amount, place = float(count), 0
    while round(amount, 1) >= 1024 and place < len(UNITS) - 1:
        amount /= 1024
        place += 1
    digits = 1 if place and round(amount, 1) < 100 else 0
    return f"{amount:.{digits}f}".removesuffix(".0") + f" {UNITS[place]}"


def bytes_beyond(count: int, most: int) -> str:
    """Return a size that is beyond `most`, exactly where both would read the same."""
    text = human_bytes(count)
    return f"{count:,} B" if text == human_bytes(most) else text
