"""The questions of the graded tasks: five domains, each a function from a random stream and a level to text.

Level 0 is the easiest. A level is harder than the one below by construction: more steps, larger numbers, longer texts;
the docstring of each domain says what its levels are. Levels compare inside a domain, not between domains. Answers
are computed, and the upper levels of most domains write their steps out, so that answer lengths and vocabulary vary
as they do in real instruction data.

>>> arithmetic(np.random.default_rng(0), 2)
('What is 81 * 6 - 35? Show both steps.', '81 * 6 = 486; 486 - 35 = 451')
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

N_LEVELS = 5
_WORD_LIST = """
amber anchor apple autumn basket beacon bottle branch bridge butter candle canvas carpet castle cherry circle
cotton desert dragon engine feather fiddle flower forest garden ginger guitar hammer harbor helmet island jacket
kettle ladder lantern lemon marble meadow mirror monkey mountain needle orange orchard paper pebble pencil pepper
planet pocket pumpkin rabbit ribbon river rocket saddle shadow silver spider summer thunder timber tunnel turtle
valley velvet violin walnut window winter wizard yellow zebra
"""
_WORDS = tuple(_WORD_LIST.split())
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Draw = np.random.Generator


def _int(draw: Draw, low: int, high: int) -> int:
    """One integer from low..high, both ends included."""
    return int(draw.integers(low, high, endpoint=True))


def _ints(draw: Draw, n: int, low: int, high: int) -> list[int]:
    """`n` different integers from low..high in random order."""
    return [low + int(i) for i in draw.choice(high - low + 1, size=n, replace=False)]


def _words(draw: Draw, n: int) -> list[str]:
    """`n` different words in random order."""
    return [_WORDS[i] for i in draw.choice(len(_WORDS), size=n, replace=False)]


def _step(a: int, op: str, b: int) -> tuple[int, str]:
    """The value of `a op b`, and the line that works it out."""
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    return value, f"{a} {op} {b} = {value}"


def _comma(values: Iterable[object]) -> str:
    """Values in one line: `3, 1, 2`."""
    return ", ".join(map(str, values))


def arithmetic(draw: Draw, level: int) -> tuple[str, str]:
    """Whole numbers.

    0: one sum or difference of numbers up to 60. 1: one sum or difference of three-digit numbers. 2: two-digit times
    one-digit, then plus or minus; two steps. 3: a bracket, a product, a difference; three steps. 4: two products of
    two-digit numbers, their sum or difference, then a remainder; four steps.
    """
    op = str(draw.choice(["+", "-"]))
    if level <= 1:
        low, high = ((0, 60), (100, 999))[level]
        b, a = sorted((_int(draw, low, high), _int(draw, low, high)))
        return f"What is {a} {op} {b}?", str(_step(a, op, b)[0])
    if level == 2:
        a, b, c = _int(draw, 50, 99), _int(draw, 3, 9), _int(draw, 11, 99)
        product, first = _step(a, "*", b)
        return f"What is {a} * {b} {op} {c}? Show both steps.", f"{first}; {_step(product, op, c)[1]}"
    if level == 3:
        b, a = sorted(_ints(draw, 2, 11, 99))
        c, d = _int(draw, 6, 15), _int(draw, 101, 999)
        bracket, first = _step(a, op, b)
        product, second = _step(bracket, "*", c)
        question = f"What is ({a} {op} {b}) * {c} - {d}? Show each step."
        return question, f"{first}; {second}; {_step(product, '-', d)[1]}"
    (a, b), (c, d) = sorted((_ints(draw, 2, 11, 99), _ints(draw, 2, 11, 99)), key=lambda pair: -pair[0] * pair[1])
    modulus = _int(draw, 7, 19)
    left, first = _step(a, "*", b)
    right, second = _step(c, "*", d)
    total, third = _step(left, op, right)
    question = f"What remains when {a} * {b} {op} {c} * {d} is divided by {modulus}? Show each step."
    return question, f"{first}; {second}; {third}; {total} mod {modulus} = {total % modulus}"


def text(draw: Draw, level: int) -> tuple[str, str]:
    """Editing words.

    0: write two words in capitals. 1: copy five words, one of them in capitals. 2: remove a letter from four words.
    3: write four words backwards. 4: three edits of five words one after the other, each written out.
    """
    words = _words(draw, (2, 5, 4, 4, 5)[level])
    shown, k = " ".join(words), _int(draw, 1, len(words))
    capitals = [word.upper() if i == k else word for i, word in enumerate(words, 1)]
    if level == 0:
        return f"Write in capital letters: {shown}", shown.upper()
    if level == 1:
        return f"Copy these words, with word {k} in capital letters: {shown}", " ".join(capitals)
    if level == 2:
        letter = str(draw.choice(sorted(set("".join(words)))))
        return f"Remove every letter {letter!r}: {shown}", shown.replace(letter, "")
    if level == 3:
        return f"Write each word backwards: {shown}", " ".join(word[::-1] for word in words)
    ordered = sorted(words)
    turned = [word[::-1] for word in ordered]
    final = " ".join(word.upper() if i == k else word for i, word in enumerate(turned, 1))
    question = f"Sort these words by the alphabet, then write each backwards, then word {k} in capitals: {shown}"
    return question, f"sorted: {' '.join(ordered)}; backwards: {' '.join(turned)}; capitals: {final}"


def lists(draw: Draw, level: int) -> tuple[str, str]:
    """Lists of numbers.

    0: the largest or smallest of three. 1: sort four. 2: sort six three-digit numbers from large to small. 3: of
    seven, keep those above a bound, then add them up. 4: of nine three-digit numbers, keep the even ones, sort them,
    and give the differences between neighbours.
    """
    if level <= 2:
        n, low, high = ((3, 10, 99), (4, 10, 99), (6, 100, 999))[level]
        numbers = _ints(draw, n, low, high)
        shown, largest = _comma(numbers), bool(draw.integers(2))
        if level == 0:
            which, answer = ("largest", max(numbers)) if largest else ("smallest", min(numbers))
            return f"Which number is the {which}: {shown}?", str(answer)
        order = "smallest to the largest" if level == 1 else "largest to the smallest"
        return f"Sort from the {order}: {shown}", _comma(sorted(numbers, reverse=level == 2))
    if level == 3:
        numbers = _ints(draw, 7, 10, 99)
        bound = sorted(numbers)[_int(draw, 2, 3)]
        kept = [number for number in numbers if number > bound]
        question = f"Keep the numbers above {bound}, then add them up: {_comma(numbers)}"
        return question, f"keep: {_comma(kept)}; sum: {sum(kept)}"
    n_even = _int(draw, 4, 6)
    mixed = [2 * i for i in _ints(draw, n_even, 50, 499)] + [2 * i + 1 for i in _ints(draw, 9 - n_even, 50, 499)]
    numbers = [mixed[i] for i in draw.permutation(9)]
    evens = sorted(number for number in numbers if number % 2 == 0)
    question = f"Keep the even numbers, sort them, and give the differences between neighbours: {_comma(numbers)}"
    return question, f"sorted: {_comma(evens)}; differences: {_comma(b - a for a, b in pairwise(evens))}"


def calendar(draw: Draw, level: int) -> tuple[str, str]:
    """Units, clock and dates.

    0: a metric unit into a smaller one. 1: a mixed amount (hours and minutes, weeks and days, ...) into the smaller
    unit. 2: a time of day plus a duration, past midnight too. 3: a date plus days, over one to five ends of month.
    4: the days between two dates up to six years apart, leap years included, and the weekday of the later one.
    """
    if level == 0:
        units = (("kilometers", "meters", 1000), ("meters", "centimeters", 100), ("centimeters", "millimeters", 10))
        big, small, factor = (*units, ("kilograms", "grams", 1000), ("liters", "milliliters", 1000))[_int(draw, 0, 4)]
        amount = _int(draw, 2, 999)
        return f"How many {small} are {amount} {big}?", str(amount * factor)
    if level == 1:
        mixtures = (("hours", "minutes", 60), ("minutes", "seconds", 60), ("weeks", "days", 7), ("days", "hours", 24))
        big, small, factor = mixtures[_int(draw, 0, 3)]
        amount, rest = _int(draw, 3, 60), _int(draw, 2, factor - 1)
        return f"How many {small} are {amount} {big} and {rest} {small}?", str(amount * factor + rest)
    if level == 2:
        start, hours, minutes = _int(draw, 0, 1439), _int(draw, 1, 14), _int(draw, 2, 59)
        end = (start + 60 * hours + minutes) % 1440
        question = f"A train leaves at {_clock(start)} and travels {hours} hours and {minutes} minutes."
        return f"{question} When does it arrive?", _clock(end)
    first = date(2000, 1, 1) + timedelta(days=_int(draw, 0, 9000))
    if level == 3:
        n_days = _int(draw, 31, 140)
        return f"Which date is {n_days} days after {first}?", str(first + timedelta(days=n_days))
    last = first + timedelta(days=_int(draw, 200, 2200))
    question = f"How many days lie from {first} to {last}, and which weekday is the later date?"
    return question, f"{(last - first).days} days, {_WEEKDAYS[last.weekday()]}"


def _clock(minute: int) -> str:
    """Minutes after midnight as hh:mm."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def code(draw: Draw, level: int) -> tuple[str, str]:
    """What a small Python program prints.

    0: one expression. 1: four assignments. 2: slices of a string. 3: a loop that sums, with the running total as
    trace. 4: a loop with a branch that builds a list of eight.
    """
    asked = "What does this Python program print?\n\n"
    if level == 0:
        a, b, c = _int(draw, 1, 60), _int(draw, 2, 9), _int(draw, 2, 9)
        return f"{asked}print({a} + {b} * {c})", str(a + b * c)
    if level == 1:
        x, b, c, d = _int(draw, 2, 20), _int(draw, 2, 9), _int(draw, 2, 20), _int(draw, 2, 5)
        y = x * b
        z = y - c
        return f"{asked}x = {x}\ny = x * {b}\nz = y - {c}\nx = z + x * {d}\nprint(x)", str(z + x * d)
    if level == 2:
        first, second = _words(draw, 2)
        i, j = _int(draw, 1, 2), _int(draw, -3, -1)
        part = (first + second)[i:j]
        program = f's = "{first}" + "{second}"\nt = s[{i}:{j}]\nprint(t[::-1] + str(len(t)))'
        return asked + program, f"{part[::-1]}{len(part)}"
    if level == 3:
        start, step, factor = _int(draw, 1, 30), _int(draw, 2, 7), _int(draw, 2, 9)
        low = _int(draw, 1, 9)
        stop = low + step * _int(draw, 3, 5)
        program = f"total = {start}\nfor i in range({low}, {stop}, {step}):\n    total += i * {factor}\nprint(total)"
        totals = [start + factor * sum(range(low, i + 1, step)) for i in range(low, stop, step)]
        return asked + program, f"total: {_comma(totals)}; prints {totals[-1]}"
    start, divisor, factor, plus = _int(draw, 10, 99), _int(draw, 2, 4), _int(draw, 2, 4), _int(draw, 1, 30)
    branch = f"    if n % {divisor} == 0:\n        n = n // {divisor}\n    else:\n        n = n * {factor} + {plus}"
    program = f"n = {start}\nout = []\nwhile len(out) < 8:\n{branch}\n    out.append(n)\nprint(out)"
    n, seen = start, list[int]()
    while len(seen) < 8:
        n = n // divisor if n % divisor == 0 else n * factor + plus
        seen.append(n)
    return asked + program, f"[{_comma(seen)}]"


DOMAINS: dict[str, Callable[[Draw, int], tuple[str, str]]] = {
    "arithmetic": arithmetic,
    "text": text,
    "lists": lists,
    "calendar": calendar,
    "code": code,
}
