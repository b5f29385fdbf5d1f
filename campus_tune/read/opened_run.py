r"""A run as tables and pictures: `campus_tune.open_run("runs/mine")`.

>>> import json, tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> lines = [
...     {"event": "run", "past": {"n_rows": 40}, "future": {"total_steps": 6}},
...     {"event": "decision", "stage": 0, "step": 0, "steps": 2, "epoch": 0, "chosen": "length", "rows": 8,
...      "outcome": "only one", "scope": [0, 1],
...      "offers": [{"name": "length", "loss": 2.0}, {"name": "mtld", "loss": 1.5}]},
... ]
>>> _ = (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
>>> run = open_run(folder)
>>> run.decisions[["stage", "chosen", "rows", "scope_to"]].to_dict("records")
[{'stage': 0, 'chosen': 'length', 'rows': 8, 'scope_to': 1.0}]
>>> run.offers.perplexity.round(2).tolist(), len(run.probes), run.finished
([7.39, 4.48], 0, False)

Each table is read when it is first asked for, and kept. Its columns and what they mean are in `campus_tune.read.tables`
and in `run.columns`. Of several runs, `pd.concat({run.name: run.probes for run in runs})` is one table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from campus_tune.data.judged import keys_of
from campus_tune.data.said import Said
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.read import tables
from campus_tune.read.answers import lines_of_answers
from campus_tune.read.finished import read_dropped, read_stored
from campus_tune.read.inline_page import InlinePage
from campus_tune.read.likely_wrong import LikelyWrong, read_likely_wrong, trained_shape
from campus_tune.report import run_plots
from campus_tune.report.figures import Picture, faces_of, picture
from campus_tune.report.map_plots import map_picture
from campus_tune.report.prompt_plots import pass_rates, prompt_map, without_gradient
from campus_tune.report.run_facts import RunOnDisk, find_ledger, read_run
from campus_tune.report.write import markdown_of, write_report
from campus_tune.run.book_keeping import FILE as BOOK
from campus_tune.run.book_keeping import read_visits
from campus_tune.run.ledger import FOLDER
from campus_tune.run.ledger_lines import audit_words, read_events
from campus_tune.run.prompt_map import FILE as PROMPT_MAP
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.told import DROPPED, answered_line
from campus_tune.run.value_table import VALUES
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.files import read_table
from campus_tune.words.tables import html_table
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure

JOINED = ("row", "key", "region", "visits", "mean_loss", "excess", "suspect", "contradicting", "duplicate_of")


def open_run(run: str | Path, *, data: str | Path | Sequence[Json] | Dataset | None = None) -> OpenedRun:
    """Open what a run left, or has left so far, as tables and pictures.

    Args:
        run: its output_dir, or the `curriculum/` folder in it.
        data: the rows that it was trained on, as a file, a `datasets.Dataset` or dicts: the texts of all its rows are
            looked up in it, by what they say. Without it the texts of the twenty likeliest wrong rows are known.

    Raises:
        DataError: there is no run, it has not begun to train, or its ledger is damaged.
    """
    return OpenedRun(Path(run), Path(data) if isinstance(data, str) else data)


class OpenedRun:
    """A run as pandas tables, matplotlib figures and a page; in a notebook, a small table of what it came to.

    Every table has its columns whatever the run has done (`run.columns` says what they mean); one of things that it
    did not do is empty. A run that goes on is read as it stands: open it again for what has happened since.

    Args:
        run: its output_dir, or the `curriculum/` folder in it.
        data: its training file, or its rows; None where texts are not looked up.

    Raises:
        DataError: there is no run, it has not begun to train, or its ledger is damaged.
    """

    def __init__(self, run: Path, data: Path | Sequence[Json] | Dataset | None = None) -> None:
        self.folder = find_ledger(run).parent
        self.data = data
        self._events = read_events(find_ledger(run))

    # -- the run in a few words ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The last two parts of its output_dir: many are called `run`."""
        out = self.folder.resolve()
        return "/".join((out.parent if out.name == FOLDER else out).parts[-2:])

    @property
    def finished(self) -> bool:
        """It came to its end."""
        return str(self._events[-1]["event"]) == "end"

    @property
    def recipe(self) -> str:
        """The resolved `campus:` block as YAML; "" where the file is missing."""
        path = self.folder / "recipe.yaml"
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    @property
    def advice(self) -> list[str]:
        """What the run advises at its end."""
        return [one["line"] for one in self._events[-1].get("advice", [])]

    @property
    def warnings(self) -> list[str]:
        """What it has warned of, each once."""
        return list(dict.fromkeys(warning for event in self._events for warning in event.get("warnings", [])))

    @cached_property
    def facts(self) -> dict[str, str]:
        """What it came to, in words: what stands in the table that a notebook shows."""
        first, last = self._events[0], self._events[-1]
        told = next((event for event in reversed(self._events) if "audit" in event), {})
        step, total = int(told.get("step", 0)), first["future"]["total_steps"]
        found = {"run": self.name, "state": "finished" if self.finished else "not over: it goes on, or was killed"}
        found["steps"] = f"{step:,} of {total:,}, in {len(tables.of(self._events, 'decision')):,} stages"
        seen = f", {last['rows_seen']:,} of them trained" if "rows_seen" in last else ""
        found["rows"] = f"{first['past']['n_rows']:,}{seen}"
        if "all" in told.get("cost", {}):
            budget = last.get("budget", first["future"].get("campus: budget"))
            of = "" if budget is None else f", against a budget of {budget:.1%}"
            found["cost"] = f"{told['cost']['all']:.1%} of the training compute{of}"
        if told:
            found["audit"] = audit_words(told) or "no step was audited yet"
        if (answered := answered_line(last)) is not None:
            found["answers"] = answered
        if prompts := tables.of(self._events, "prompt_map"):
            found["prompts"] = prompts[-1]["sentence"].partition(": ")[2]
        if self._mapped:
            found["data map"] = self._mapped.get("sentence") or f"none: {self._mapped.get('why', 'it is not said why')}"
        return found

    def __repr__(self) -> str:
        return "\n".join(f"{name + ':':10}{value}" for name, value in self.facts.items())

    def _repr_html_(self) -> str:
        return html_table(list(self.facts.items()))

    @property
    def columns(self) -> pd.DataFrame:
        """Of every table, what its columns mean: `table`, `column`, `meaning`."""
        return tables.meanings()

    # -- what happened, in its sequence --------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """The ledger as it stands, a line for each of its lines and a column for each key that any of them has."""
        return tables.whole_ledger(self._events)

    def events(self, name: str) -> pd.DataFrame:
        """The ledger's lines of one kind, what is nested in them as `outer.inner`; empty where there are none.

        Args:
            name: `run`, `decision`, `stage_end`, `probes`, `act`, `end`, …
        """
        return pd.json_normalize(tables.of(self._events, name))

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """A line for each stage: what was chosen, why, and what its training showed."""
        return tables.table("decisions", list(tables.lines_of_decisions(self._events)))

    @cached_property
    def offers(self) -> pd.DataFrame:
        """A line for each sub-curriculum that was measured at a decision."""
        return tables.table("offers", list(tables.lines_of_offers(self._events)))

    @cached_property
    def probes(self) -> pd.DataFrame:
        """A line for each domain at each measurement of the held-out probes."""
        return tables.table("probes", list(tables.lines_of_probes(self._events)))

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """A line for each metric of each official task at each evaluation."""
        return tables.table("evaluations", list(tables.lines_of_evaluations(self._events)))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A line for each purpose that measuring was paid for, so far."""
        return tables.table("costs", tables.lines_of_costs(self._events))

    @cached_property
    def weights(self) -> pd.DataFrame:
        """A line for each stage whose rows were weighted."""
        return tables.table("weights", list(tables.lines_of_weights(self._events)))

    @cached_property
    def shares(self) -> pd.DataFrame:
        """A line for each domain or cell of each stage, where the recipe says who is drawn."""
        return tables.table("shares", list(tables.lines_of_shares(self._events)))

    @cached_property
    def moved(self) -> pd.DataFrame:
        """A line for each domain or cell each time that its share followed what was measured."""
        return tables.table("moved", list(tables.lines_of_moved(self._events)))

    @cached_property
    def firings(self) -> pd.DataFrame:
        """A line for each time that a rule or a milestone saw what it watches for."""
        return tables.table("firings", tables.of(self._events, "event"))

    @cached_property
    def groups(self) -> pd.DataFrame:
        """A line for each stage whose prompts were answered: how many answers passed, which groups gave no gradient."""
        return tables.table("groups", list(tables.lines_of_groups(self._events)))

    @cached_property
    def pass_rates(self) -> pd.DataFrame:
        """A line for each domain, and each band of the expected pass rate, of each such stage."""
        return tables.table("pass_rates", list(tables.lines_of_pass_rates(self._events)))

    # -- the rows ------------------------------------------------------------------------------------------------------

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A line for each row, a column for each metric: its score before training, higher is harder."""
        labels = [event["metric"] for event in tables.of(self._events, "scores")]
        found = {name: read_stored(self.folder / SCORES / f"{name}.parquet", f"scores of {name}") for name in labels}
        columns = {name: of["score"] for name, of in found.items() if "score" in of}
        n_rows = max(map(len, columns.values()), default=0)
        return tables.table("scores", {"row": np.arange(n_rows), **columns})

    @cached_property
    def visits(self) -> pd.DataFrame:
        """A line for each time that a row was trained, in the sequence of training: what its forward showed."""
        found = read_visits(self.folder, self._events, int(self._events[0]["past"].get("global_batch", 1)))
        if found is None:
            return tables.table("visits", [])
        stage, row, step, losses = found
        return tables.table(
            "visits",
            {
                "stage": stage,
                "step": step,
                "row": row,
                "tokens": losses.tokens,
                "loss": losses.per_row(),
                "worst": losses.worst,
                "surprise": losses.tokens - losses.sureness,
            },
        )

    @cached_property
    def map(self) -> pd.DataFrame:
        """A line for each row: what training says of it. Empty before the run's end, and where it made no map."""
        return tables.table("map", read_stored(self.folder / MAP, "map"))

    @cached_property
    def book(self) -> pd.DataFrame:
        """A line for each row: the book that rows were drawn by. Empty where the recipe draws by none."""
        return tables.table("book", read_stored(self.folder / BOOK, "book"))

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """A line for each prompt: what its answers showed. Empty before the run's end, and where there were none."""
        return tables.table("prompts", read_stored(self.folder / PROMPT_MAP, "map of the prompts"))

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A line for each answer that was generated in training, in its sequence, with its reward.

        Raises:
            DataError: a file of a stage is missing or damaged.
        """
        stages = [end["stage"] for end in tables.of(self._events, "stage_end") if "groups" in end]
        return tables.table("answers", lines_of_answers(self.folder, stages))

    @cached_property
    def values(self) -> pd.DataFrame:
        """A line for each row: what it was worth to the probes. Empty where that was not measured."""
        return tables.table("values", read_stored(self.folder / VALUES, "values of the rows"))

    @cached_property
    def suspects(self) -> pd.DataFrame:
        """The rows that look wrong, the likeliest first, with what is known of their texts."""
        lines = self.map[self.map.suspect].sort_values("excess", ascending=False, kind="stable").to_dict("records")
        texts = {} if self._likely_wrong is None else self._likely_wrong.texts
        for line in lines:
            if (text := texts.get(line["row"])) is not None:
                line |= {"prompt": text.prompt, "answer": text.answer, **text.rather}
        return tables.table("suspects", lines)

    @cached_property
    def dropped(self) -> pd.DataFrame:
        """A line for each row that was never trained, and why."""
        there = (self.folder / DROPPED).is_file()
        return tables.table("dropped", read_dropped(self.folder, self._events) if there else [])

    @cached_property
    def rows(self) -> Dataset:
        """The rows as a `datasets.Dataset`, with what the run knows of each.

        With `data` it is the user's own rows, in their sequence, and beside them `row`, `key`, `region`, `visits`,
        `mean_loss`, `excess`, `suspect`, `contradicting`, `duplicate_of` (with `run_` before a name that the data
        have already); None in all of them for a row that the run did not have. Without, it has a line for each row of
        the map, with `domain`, `prompt` and `answer` where the run has kept them.

        >>> open_run("runs/mine", data="train.jsonl").rows.filter(lambda row: not row["suspect"])  # doctest: +SKIP
        """
        from datasets import Dataset

        known = self.map
        of_run: dict[str, list[Any]] = {
            name: known[name].astype(object).where(known[name].notna(), None).tolist() for name in (*JOINED, "domain")
        }
        of_run |= {name: [None if x is None else int(x) for x in of_run[name]] for name in ("visits", "duplicate_of")}
        if self.data is None:
            texts = {} if self._likely_wrong is None else self._likely_wrong.texts
            said = [texts.get(row) for row in of_run["row"]]
            of_run |= {
                "prompt": [None if text is None else _encodable(text.prompt) for text in said],
                "answer": [None if text is None else _encodable(text.answer) for text in said],
            }
            return Dataset.from_dict(of_run)
        mine = self._data
        found = _places(of_run["key"], keys_of(Said.of_rows(mine, trained_shape(self._events)).whole))
        added = Dataset.from_list(mine) if not isinstance(self.data, Dataset) else self.data
        for name in JOINED:
            free = f"run_{name}" if name in added.column_names else name
            added = added.add_column(free, [None if place is None else of_run[name][place] for place in found])
        return added

    # -- pictures and the page -----------------------------------------------------------------------------------------

    def plot_map(self) -> Figure:
        """The data map: excess and spread of every row, coloured by region."""
        of = self._on_disk.map
        return _drawn(None if of is None else map_picture(of), "no map of the rows: it is made when a run is over")

    def plot_decisions(self) -> Figure:
        """What each sub-curriculum offered at every decision, and what was chosen."""
        facts = self._on_disk
        return _drawn(run_plots.choices(facts, faces_of(facts.choices, plain=SHUFFLE)), "no decision yet")

    def plot_probes(self) -> Figure:
        """Competence of each domain at every measurement of the probes."""
        return _drawn(run_plots.competence(self._on_disk), "no measurement of probes: the recipe names none")

    def plot_loss(self) -> Figure:
        """Mean loss of what each stage trained, together and by domain."""
        return _drawn(run_plots.training_loss(self._on_disk), "no stage is over yet")

    def plot_gradients(self) -> Figure:
        """Groups without a gradient in each stage, and what shuffling would have had."""
        facts = self._on_disk.prompts
        found = without_gradient(facts) if facts is not None and facts.stages else None
        return _drawn(found, "no stage with answers is over")

    def plot_pass_rates(self) -> Figure:
        """Share of the answers that passed in each stage, all together and by domain."""
        facts = self._on_disk.prompts
        return _drawn(None if facts is None else pass_rates(facts), "no stage with answers is over")

    def plot_prompts(self) -> Figure:
        """The map of the prompts: how many by the share of their answers that passed."""
        facts = None if self._on_disk.prompts is None else self._on_disk.prompts.map
        return _drawn(None if facts is None else prompt_map(facts), "no map of prompts: it is made when a run is over")

    def plot_costs(self) -> Figure:
        """What measuring cost, by purpose, against the budget."""
        facts = self._on_disk
        return _drawn(run_plots.cost_bar(facts.cost, facts.budget) if facts.cost else None, "no stage is over yet")

    def report(self, out: str | Path | None = None) -> InlinePage:
        """Write the page of the run, and show it where this is a notebook.

        Args:
            out: the page; None puts `report.html` beside the ledger.

        Raises:
            DataError: nothing has happened in the run yet, or a file of it is damaged.
            StorageError: the page cannot be written.
        """
        return InlinePage(write_report(self.folder, out))

    def markdown(self) -> str:
        """What it came to as Markdown, for a pull request."""
        return markdown_of(self.folder)

    # -- what several of these read ------------------------------------------------------------------------------------

    @cached_property
    def _mapped(self) -> Json:
        """The ledger's last word on the map; {} before."""
        return (tables.of(self._events, "map") or [{}])[-1]

    @cached_property
    def _on_disk(self) -> RunOnDisk:
        return read_run(self.folder)

    @cached_property
    def _data(self) -> list[Json]:
        """The user's rows as dicts."""
        data = self.data
        return read_table(data) if isinstance(data, Path) else [dict(row) for row in data or ()]

    @cached_property
    def _likely_wrong(self) -> LikelyWrong | None:
        """The map with its texts; None without a map."""
        if not (self.folder / MAP).is_file():
            return None
        return read_likely_wrong(self.folder, None if self.data is None else self._data)


def _encodable(text: str) -> str:
    """A text that arrow takes: a row may hold halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _places(known: Sequence[str], asked: Sequence[str]) -> list[int | None]:
    """Where each asked key stands among the known ones; the second of its kind is the second there, if there are two.

    >>> _places(["a", "b", "a"], ["a", "a", "a", "c", "b"])
    [0, 2, 2, None, 1]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(known):
        places[key].append(place)
    turn: dict[str, int] = defaultdict(int)
    found: list[int | None] = []
    for key in asked:
        of_key = places.get(key, [])
        found.append(of_key[min(turn[key], len(of_key) - 1)] if of_key else None)
        turn[key] += 1
    return found


def _drawn(found: Picture | None, otherwise: str) -> Figure:
    """The picture as a figure; where there is none, one that says why, so that no notebook stops at it."""

    def only_words(figure: Figure, narrow: bool) -> None:
        del narrow
        figure.text(0.5, 0.5, otherwise, ha="center", va="center")

    return (picture("nothing", "", only_words, alt=otherwise, height=1.0) if found is None else found).figure()
