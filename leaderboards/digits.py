"""How many digits a column of numbers is shown with: the same in each row, so that they can be compared by eye."""

from collections.abc import Sequence
from typing import Any

MOST_PLACES = 6


def places_of(values: Sequence[Any], *, tell_apart: bool = False) -> int | None:
    """Decimal places for the whole column, four significant digits or so of its largest number; None where each number is
    better shown by itself (texts, whole numbers, very large or very small ones).

    `tell_apart`: as many more, up to six, as it takes for numbers that differ to look different.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    largest = max(map(abs, numbers), default=0)
    if not numbers or largest >= 1e9 or any(0 < abs(value) < 1e-4 for value in numbers):
        return None
    if all(value == int(value) for value in numbers) and largest >= 10:
        return None
    places = 4 if largest < 10 else 2 if largest < 1000 else 1
    if tell_apart:
        different = len(set(numbers))
        while places < MOST_PLACES and len({f"{value:.{places}f}" for value in numbers}) < different:
            places += 1
    return places
