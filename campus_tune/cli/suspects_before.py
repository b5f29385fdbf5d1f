"""`campus-tune suspects --config recipe.yaml`: the likeliest wrong rows before any training.

From one forward of the model over the rows, or two: what an answer costs behind its prompt, and what it costs alone. A
wrong answer costs more behind its prompt than the answers of its kind that cost as much alone (`method.suspicion`).

The losses are those that the metrics `loss` and `ifd` are made of, asked for and kept as `campus-tune score` does it:
rows that the score cache knows are not measured again, so what is killed goes on where it stopped, a run of the recipe
finds them, and `accelerate launch` shares the rows among processes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.cli.answer import Answer
from campus_tune.cli.score import open_recipe, prepare
from campus_tune.data.domains import Domains
from campus_tune.data.judging import write_rows
from campus_tune.method.suspicion import Suspicion, of_forward
from campus_tune.metrics.passage import ALONE, HERE, Passage
from campus_tune.recipe.policy import column_of
from campus_tune.recipe.trl_yaml import read_arguments
from campus_tune.run.row_map import looks_wrong
from campus_tune.scores.dropping import known_of
from campus_tune.words.errors import DataError
from campus_tune.words.registry import nearest
from campus_tune.words.tables import table_with_texts
from campus_tune.words.types import FloatArray, IntArray, Json
from campus_tune.words.wording import cut

if TYPE_CHECKING:
    from trl import SFTTrainer

    from campus_tune.data.judged import Known
    from campus_tune.scores.asking import Asking

SHOWN = 20  # rows, unless `--top` says how many
TIMED = 32  # rows, whose forward says how long the others will take
LONGEST = 24  # characters of a group's name
DIGITS = 4  # of numbers in a file


@dataclass(frozen=True, eq=False)
class Measured:
    """What the forwards said of some rows, and what these say themselves.

    Args:
        rows: of the training set, ascending, shape (n,).
        losses: mean of each answer behind its prompt, nats per token, shape (n,).
        alone: the same without the prompt, NaN for rows without one, shape (n,); None after one forward.
        tokens: of the answers, shape (n,).
        prompts: tokens of the prompts, shape (n,).
        groups: inside which rows are compared, if the training set has a column of them.
        known: what all rows say.
        decoded: the answers of all rows, where they came as tokens.
    """

    rows: IntArray
    losses: FloatArray
    alone: FloatArray | None
    tokens: IntArray
    prompts: IntArray
    groups: Domains
    known: Known
    decoded: Sequence[str]

    @cached_property
    def suspicion(self) -> Suspicion:
        """How suspect each row is."""
        codes = self.groups.codes
        return of_forward(self.losses, self.tokens, groups=codes, alone=self.alone, prompts=self.prompts)

    def table(self, n: int, width: int) -> str:
        """The `n` rows that are likeliest wrong, with as much of their texts as the terminal has room for."""
        places = self.suspicion.worst_first[:n]
        columns = {"row": [str(row) for row in self.rows[places]]}
        if self.groups.codes is not None:
            columns["group"] = [cut(self._group(place), LONGEST) for place in places.tolist()]
        numbers = {"score": self.suspicion.score, "loss": self.losses, "alone": self.alone}
        for name, values in numbers.items():
            if values is not None:
                columns[name] = ["-" if np.isnan(value) else f"{value:.2f}" for value in values[places]]
        texts = [self._text(place, prompt=width // 3) for place in places.tolist()]
        return table_with_texts(list(columns), list(zip(*columns.values(), strict=True)), texts, width=width)

    def lines(self, n: int) -> Iterator[Json]:
        """The same rows for a file that a person judges."""
        keys, contents, said = self.known.keys(), self.known.contents(), self.known.said
        for place in self.suspicion.worst_first[:n].tolist():
            row = int(self.rows[place])
            domain = {} if self.groups.codes is None else {"domain": self._group(place)}
            yield {
                "row": row,
                "key": keys[row],
                "content": contents[row],
                **domain,
                "score": round(float(self.suspicion.score[place]), DIGITS),
                "spread": None,  # of passes, and there were none
                "visits": 0,
                "loss": round(float(self.losses[place]), DIGITS),
                "text": self._text(place),
                **({} if said is None else {"answer": said.answers[row]}),
            }

    def sentence(self) -> str:
        """What was found, in one line."""
        places = np.flatnonzero(self.suspicion.suspects).tolist()
        counts = Counter(map(self._group, places)) if len(self.groups.names) > 1 else Counter()
        return looks_wrong(len(places), len(self.rows), next(iter(counts.most_common(1)), None))

    def _group(self, place: int) -> str:
        return "" if self.groups.codes is None else self.groups.names[int(self.groups.codes[place])]

    def _text(self, place: int, *, prompt: int | None = None) -> str:
        """What a row says; of its prompt the first `prompt` characters, so that the answer is seen."""
        row, said = int(self.rows[place]), self.known.said
        if said is None:
            return self.decoded[row]
        if prompt is None:
            return said.whole[row]
        asked = cut(" ".join(said.prompts[row].split()), prompt)
        return f"{asked} → {said.answers[row]}" if asked else said.answers[row]


def before(argv: Sequence[str], *, rows: int | None, top: int | None, out: Path | None, forwards: int) -> Answer:
    """Show the rows of a recipe that are likeliest wrong.

    Args:
        argv: `--config recipe.yaml` and TRL's flags.
        rows: as many are measured, drawn at random; those of a smaller number are among those of a larger one. None for
            all.
        top: rows that are shown; None for 20, or all where there are fewer.
        out: JSON lines for a person to judge, of the rows that are shown; None writes none.
        forwards: 1, or 2: of the answers alone too.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, or nowhere to keep what is measured.
        DataError: more rows than there are, or more to be shown than measured.
    """
    settings, block, flags = read_arguments(list(argv))
    trainer, config = open_recipe(settings, block, flags, metrics=["loss", "ifd"][:forwards])
    scoring, _ = prepare(trainer, config)
    n_rows, say = len(scoring.texts), trainer.accelerator.print
    n_asked = _within("--rows", n_rows if rows is None else rows, n_rows, "rows of the training set")
    n_shown = _within("--top", min(SHOWN, n_asked) if top is None else top, n_asked, "rows that are measured")
    drawn = np.random.default_rng(config.seed or 0).permutation(n_rows)[:n_asked]
    measured = _measure(trainer, scoring, np.sort(drawn).astype(np.int64), block or {}, forwards)
    say(measured.table(n_shown, shutil.get_terminal_size().columns))
    say(measured.sentence())
    if out is not None and scoring.passages.peers.leads:
        say(write_rows(out, list(measured.lines(n_shown)), known=measured.known.keys()).line(out))
    suspects = int(measured.suspicion.suspects.sum())
    return Answer(
        {
            "sentence": measured.sentence(),
            "measured": n_asked,
            "suspects": suspects,
            "rows": list(measured.lines(n_shown)),
            "out": out,
        }
    )


def _within(flag: str, value: int, most: int, what: str) -> int:
    """A number of rows that was asked for.

    Raises:
        DataError: there are not so many.
    """
    if not 1 <= value <= most:
        raise DataError(
            f"`{flag}` must be from 1 to {most}, the number of {what}, got {value}. Write {flag} {most}, or leave it "
            "out."
        )
    return value


def _groups(scoring: Asking, block: Json) -> Domains:
    """The rows' domains, and inside them the groups of the recipe's `cells: of`, where it has any.

    Raises:
        DataError: there is no such column.
    """
    columns, cells = scoring.texts.columns, block.get("cells")
    named = [("within", column_of(scoring.config, columns))]
    if isinstance(cells, Mapping):
        named.append(("cells: of", cells.get("of")))
    values = []
    for setting, column in named:
        if column is not None and column not in columns:
            raise DataError(
                f"`{setting}` must be a column of the training set ({', '.join(columns)}), got {column!r}."
                f"{nearest(str(column), columns)} Name one of them, or leave it out."
            )
        values += [] if column is None else [columns[column]]
    return Domains.of(" · ".join(map(str, names)) for names in zip(*values, strict=True)) if values else Domains()


def _measure(trainer: SFTTrainer, scoring: Asking, rows: IntArray, block: Json, forwards: int) -> Measured:
    """Losses of `rows`, from the score cache where it knows them; what the others cost is said first."""
    passages, say = scoring.passages, trainer.accelerator.print
    asked = scoring.texts.prompt_tokens[rows] > 1  # nothing predicts a row's first token: it carries no loss either
    groups, parts = _groups(scoring, block).take(rows), [HERE, ALONE][:forwards]
    if forwards > 1 and not asked.any():
        say("no row has a prompt, so answers alone would show the same: one forward is used")
        parts = [HERE]
    for line in _cost(scoring, rows, parts):
        say(line)
    losses = {part: passages.take(part, rows).losses for part in parts}
    for warning in [*passages.warnings, *passages.cache.warnings]:
        say(f"warning: {warning}")
    return Measured(
        rows,
        losses=losses[HERE].per_row(),
        alone=np.where(asked, losses[ALONE].per_row(), np.nan) if ALONE in losses else None,
        tokens=losses[HERE].tokens,
        prompts=scoring.texts.prompt_tokens[rows],
        groups=groups,
        known=known_of(trainer, scoring.texts.columns, passages.rows.content),
        decoded=scoring.texts.response_text,
    )


def _cost(scoring: Asking, rows: IntArray, parts: Sequence[Passage]) -> Iterator[str]:
    """What it costs to measure `rows`: tokens; then time, once some rows have shown how long they take."""
    passages, budget = scoring.passages, scoring.budget
    missing = {part: rows[~passages.known.find(passages.known.key(part), rows)[0]] for part in parts}
    tokens = sum(int(passages.tokens(part)[new].sum()) for part, new in missing.items())
    share = budget.ratio * tokens / budget.training_tokens
    what = f"{len(parts)} forward{'s' if len(parts) > 1 else ''} over {len(rows)} rows"
    n_known = sum(len(rows) - len(new) for new in missing.values())
    known = f"; {n_known} losses are in the score cache" if n_known else ""
    yield f"{what}: {tokens:,} tokens, {share:.1%} of the recipe's training compute{known}"
    new = missing[HERE]
    if len(new) > 4 * TIMED:
        some = new[:: len(new) // TIMED]
        seconds = passages.take(HERE, some).seconds * tokens / int(passages.tokens(HERE)[some].sum())
        yield f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"
