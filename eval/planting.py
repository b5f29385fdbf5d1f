"""Wrong answers, planted into rows whose answers are right: what `eval/suspects.py` looks for, and knows.

Rows are a `prompt` and a `completion`, each a list of one message, with a column that says their domain or source.
Only answers are changed (and the prompt of `two_answers`), never the number of rows or their sequence. A row counts as
wrong where its answer is no longer the one that it had.

| kind | a wrong row |
|---|---|
| `swapped` | two rows of one domain and of nearly the same length have exchanged their answers |
| `any` | has the answer of any other row |
| `cut` | its answer ends after three to seven tenths |
| `template` | answers in another language and frame than all others |
| `two_answers` | has the prompt of another row of its domain, and its own answer |
| `weaker` | has the answer that a weaker model gives, where that is another one |

>>> def row(question, answer):
...     return {"domain": "sums", "prompt": [{"content": question}], "completion": [{"content": answer}]}
>>> rows = [row("1+1", "2"), row("3+3", "6"), row("4+4", "8")]
>>> planted, wrong = plant(rows, "swapped", 2 / 3, np.random.default_rng(0))
>>> [answer_of(row) for row in planted], wrong.tolist()
(['8', '6', '2'], [True, False, True])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.stats import average_ranks
from campus_tune.words.types import BoolArray, FloatArray, Json

KINDS = ("swapped", "any", "cut", "template", "two_answers", "weaker")
FRAMES = ("Die Antwort lautet: {}.", "La respuesta es: {}.", "La réponse est : {}.", "Svaret er: {}.")
LEAST_CUT = 4  # characters of an answer that can be cut off


def answer_of(row: Json) -> str:
    """The text that is trained."""
    return str(row["completion"][0]["content"])


def with_answer(row: Json, answer: str) -> Json:
    """The same row with another answer."""
    return {**row, "completion": [{**row["completion"][0], "content": answer}]}


def plant(
    rows: Sequence[Json],
    kind: str,
    share: float,
    rng: np.random.Generator,
    *,
    domain: str = "domain",
    lengths: NDArray[np.int64] | None = None,
    answers: Sequence[str] | None = None,
) -> tuple[list[Json], BoolArray]:
    """Make a share of the rows wrong.

    Args:
        rows: N of them; they are left as they are.
        kind: one of `KINDS`.
        share: of all rows, in [0, 1].
        rng: chooses them.
        domain: the column inside which `swapped` and `two_answers` look for another row.
        lengths: of the answers, in whichever unit, shape (N,); None counts characters.
        answers: of the weaker model, N of them, for `weaker` only.

    Returns:
        (rows, which of them are wrong, shape (N,)). Fewer than asked for where too few can be made wrong.
    """
    texts = [answer_of(row) for row in rows]
    able = np.arange(len(rows))
    if kind == "weaker":
        if answers is None:
            raise ValueError("`answers` must be given for the kind `weaker`, got None. Let a weaker model answer.")
        given = [answer.strip() for answer in answers]
        able = np.flatnonzero([bool(new) and new != old.strip() for new, old in zip(given, texts, strict=True)])
    elif kind == "cut":
        able = np.flatnonzero([len(text) >= LEAST_CUT for text in texts])
    chosen = np.sort(rng.permutation(able)[: round(share * len(rows))])
    size = np.array([len(text) for text in texts]) if lengths is None else np.asarray(lengths)
    field = _Field(rows, texts, size, [str(row[domain]) for row in rows], frozenset(chosen.tolist()))
    planted = list(rows)
    if kind == "two_answers":
        for row in chosen.tolist():
            planted[row] = {**rows[row], "prompt": rows[field.near(row)]["prompt"]}
    else:
        partner = dict(field.swaps(rng)) if kind == "swapped" else {}
        for row in chosen.tolist():
            text = answers[row] if answers is not None and kind == "weaker" else texts[row]
            text = texts[partner[row]] if kind == "swapped" else _changed(text, kind, texts, rng)
            planted[row] = with_answer(rows[row], text)
    changed = [
        new["prompt"] != old["prompt"] or answer_of(new) != answer_of(old)
        for new, old in zip(planted, rows, strict=True)
    ]
    return planted, np.array(changed, dtype=bool)


def _changed(text: str, kind: str, texts: Sequence[str], rng: np.random.Generator) -> str:
    """An answer made wrong by itself, or taken from anywhere."""
    if kind == "any":
        return next((texts[i] for i in rng.integers(0, len(texts), 50).tolist() if texts[i] != text), text)
    if kind == "cut":
        kept = text[: max(1, int(len(text) * rng.uniform(0.3, 0.7)))]
        return kept.rstrip() or kept
    return FRAMES[int(rng.integers(len(FRAMES)))].format(text) if kind == "template" else text


@dataclass(frozen=True, eq=False)
class _Field:
    """Where another row is looked for: rows, their answers, lengths and domains, and which of them become wrong."""

    rows: Sequence[Json]
    texts: Sequence[str]
    size: NDArray[np.int64]
    domains: Sequence[str]
    chosen: frozenset[int]

    def swaps(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(Row, the row whose answer it gets): neighbours in length among the chosen ones of a domain, in pairs.

        One that is left over, or whose partner has the same answer, gets the answer of the row nearest in length.
        """
        of_domain: dict[str, list[int]] = {}
        for row in rng.permutation(sorted(self.chosen)).tolist():
            of_domain.setdefault(self.domains[row], []).append(row)
        found = []
        for members in of_domain.values():
            line = sorted(members, key=lambda row: int(self.size[row]))  # stable: equal lengths stay as they were dealt
            for at in range(0, len(line), 2):
                pair = line[at : at + 2]
                if len(pair) == 2 and self.texts[pair[0]] != self.texts[pair[1]]:
                    found += [(pair[0], pair[1]), (pair[1], pair[0])]
                else:
                    found += [(row, self.near(row)) for row in pair]
        return found

    def near(self, row: int) -> int:
        """The right row of its domain nearest in length with another answer; the row itself where there is none."""
        others = [
            other
            for other, domain in enumerate(self.domains)
            if domain == self.domains[row] and other not in self.chosen and self.texts[other] != self.texts[row]
        ]
        return min(others, key=lambda other: abs(int(self.size[other]) - int(self.size[row])), default=row)


def precision(score: FloatArray, wrong: BoolArray, n: int) -> float:
    """Share of wrong rows among the `n` of the highest score; NaN where the list is empty. Unknown scores come last.

    >>> precision(np.array([3.0, 1.0, np.nan, 2.0]), np.array([True, False, True, False]), 2)
    0.5
    """
    first = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")[:n]
    return float(wrong[first].mean()) if n else float("nan")


def area(score: FloatArray, wrong: BoolArray) -> float:
    """How often a wrong row has a higher score than a right one (the area under the ROC curve); ties count half.

    >>> area(np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False]))
    0.875
    """
    ranks, n = average_ranks(np.where(np.isnan(score), -np.inf, score)), int(wrong.sum())
    if not 0 < n < len(wrong):
        return float("nan")
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (len(wrong) - n)))
