"""A made-up data folder: a few rows of every set in its own schema, so that tests need nobody's data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from campus_tune.evaluate.data_sets import MMLU_SUBJECTS

Row = dict[str, Any]
SHARED = Path(__file__).parents[3] / "shared" / "data"  # the real sets, where somebody has put them

MATH = [  # problem, type, solution: ours, in MATH's schema
    (r"Find $x$ if $3x + 4 = 19$.", "Algebra", r"Subtracting $4$ gives $3x = 15$, so $x = \boxed{5}$."),
    (r"Simplify $\frac{6}{8}$.", "Prealgebra", r"Both are even: $\frac{6}{8} = \boxed{\frac{3}{4}}$."),
    (r"What is $7 \cdot 8 - 6$?", "Prealgebra", r"$7 \cdot 8 = 56$, and $56 - 6 = \boxed{50}$."),
    (
        r"In how many ways can three books stand on a shelf?",
        "Counting & Probability",
        r"There are $3! = \boxed{6}$ ways.",
    ),
    (
        r"A fair die is rolled once. What is the probability of a $5$ or a $6$?",
        "Counting & Probability",
        r"Two of six faces: $\frac{2}{6} = \boxed{\frac{1}{3}}$.",
    ),
    (
        r"A circle has radius $3$. What is its area?",
        "Geometry",
        r"The area is $\pi r^2 = \pi \cdot 3^2 = \boxed{9\pi}$.",
    ),
    (
        r"The legs of a right triangle are $5$ and $12$. How long is the hypotenuse?",
        "Geometry",
        r"By Pythagoras it is $\sqrt{25 + 144} = \sqrt{169} = \boxed{13}$.",
    ),
    (
        r"Factor $x^2 - 9$ completely.",
        "Intermediate Algebra",
        r"This is a difference of squares: $x^2 - 9 = \boxed{(x - 3)(x + 3)}$.",
    ),
    (
        r"For which $x$ is $x^2 - 4x + 4 = 0$?",
        "Intermediate Algebra",
        r"The left side is $(x - 2)^2$, so $x = \boxed{2}$.",
    ),
    (r"What is the remainder of $2^{10}$ by $7$?", "Number Theory", r"$2^{10} = 1024 = 146 \cdot 7 + 2$: $\boxed{2}$."),
    (
        r"What is the greatest common divisor of $84$ and $36$?",
        "Number Theory",
        r"$84 = 2 \cdot 36 + 12$ and $36 = 3 \cdot 12$, so it is $\boxed{12}$.",
    ),
    (
        r"Compute $\cos 60^\circ$.",
        "Precalculus",
        r"In half an equilateral triangle $\cos 60^\circ = \boxed{\frac{1}{2}}$.",
    ),
    (
        r"What is the length of the vector $\begin{pmatrix} 3 \\ 4 \end{pmatrix}$?",
        "Precalculus",
        r"It is $\sqrt{3^2 + 4^2} = \boxed{5}$.",
    ),
]
PROGRAMS = [  # what, name, body, three calls with their results
    ("add two numbers", "add", "return a + b", ["add(1, 2) == 3", "add(-1, 1) == 0", "add(2, 2) == 4"]),
    ("multiply two numbers", "times", "return a * b", ["times(2, 3) == 6", "times(0, 9) == 0", "times(4, 4) == 16"]),
    ("find the larger number", "most", "return max(a, b)", ["most(1, 2) == 2", "most(5, 3) == 5", "most(7, 7) == 7"]),
]  # fmt: skip


def gsm8k(n: int, start: int) -> list[Row]:
    """Sums in GSM8K's schema, with its calculator marks and its last line."""
    rows = []
    for i in range(start, start + n):
        worked = f"Together they have {i} + {2 * i} = <<{i}+{2 * i}={3 * i}>>{3 * i} apples.\n#### {3 * i}"
        rows.append({"question": f"Ann has {i} apples and Ben has {2 * i}. How many do they have?", "answer": worked})
    return rows


def math() -> list[Row]:
    keys = ("problem", "level", "type", "solution")
    return [dict(zip(keys, (problem, "Level 1", kind, solution), strict=True)) for problem, kind, solution in MATH]


def mbpp() -> list[Row]:
    return [
        {
            "text": f"Write a function to {what}.",
            "code": f"def {name}(a, b):\r\n    {body}",
            "task_id": 11 + i,
            "test_setup_code": "",
            "test_list": [f"assert {call}" for call in calls],
            "challenge_test_list": [],
        }
        for i, (what, name, body, calls) in enumerate(PROGRAMS)
    ]


def humaneval() -> list[Row]:
    return [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f'def {name}(a, b):\n    """{what.capitalize()}."""\n',
            "entry_point": name,
            "canonical_solution": f"    {body}\n",
            "test": "\ndef check(candidate):\n"
            + "".join(f"    assert {call.replace(name, 'candidate')}\n" for call in calls),
        }
        for i, (what, name, body, calls) in enumerate(PROGRAMS)
    ]


def mmlu(per_subject: int, start: int) -> list[Row]:
    """Sums under the names of MMLU's subjects; the right choice moves from A to D and on."""
    rows = []
    for i, subject in enumerate(MMLU_SUBJECTS):
        for j in range(start, start + per_subject):
            answer = (i + j) % 4
            choices = [str(i + j + k - answer) for k in range(4)]
            rows.append({"question": f"What is {i} + {j}?", "subject": subject, "choices": choices, "answer": answer})
    return rows


def arc(split: str) -> list[Row]:
    rows = []
    for config in ("ARC-Easy", "ARC-Challenge"):
        for i in range(4):
            choices = ["red", "green like grass", "blue"][: 3 if i else 2]
            question = f"Which colour comes at place {i % len(choices)}, counted from zero?"
            rows.append({"id": f"{config}-{split}-{i}", "question": question, "choices": choices})
            rows[-1] |= {"answer": i % len(choices), "config": config}
    return rows


FILES = {
    "math/test": math(),
    "gsm8k/test": gsm8k(4, start=10),
    "gsm8k/train": gsm8k(9, start=30),
    "mbpp/test": mbpp(),
    "humaneval/test": humaneval(),
    "mmlu/test": mmlu(2, start=0),
    "mmlu/dev": mmlu(5, start=50),
    "arc/test": arc("test"),
    "arc/train": arc("train"),
}


def write(folder: Path, **changed: list[Row]) -> Path:
    """The made-up data folder; a keyword such as `mmlu_dev` puts other rows in place of that file's."""
    for name, rows in FILES.items():
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in changed.get(name.replace("/", "_"), rows)]
        path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return folder
