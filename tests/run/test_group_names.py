"""Groups whose names look alike or differ in what numpy drops, from the training set to the record of a comparison."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.compare.recorder import Recorder
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.model.probes import load_probes
from campus_tune.recipe.blocks import ProbeSettings
from campus_tune.run.callback import CampusCallback
from tests.compare.tiny_compare import write_rows
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer
from tests.run.witness import events

NAMES = ("a", "a\0", "a ", "A", "\0")
UNEVEN = [name for i, name in enumerate(NAMES) for _ in range(i + 3)]  # 3, 4, 5, …


def named(n: int, seed: int) -> list[dict[str, Any]]:
    """`n` rows, the domains of which differ in size."""
    return [{**row, "domain": UNEVEN[i % len(UNEVEN)]} for i, row in enumerate(task_rows(n, seed=seed))]


TRAIN, PROBES, TEST = named(48, 1), named(25, 77), named(30, 5)


def sizes(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["domain"] for row in rows))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Recorder, HeldOut]:
    folder = tmp_path_factory.mktemp("names")
    held = read_held_out([write_rows(folder / "test.jsonl", TEST)])
    recorder = Recorder(held, 2)
    trainer = tiny_trainer(
        folder / "run", train=TRAIN, probes=PROBES, config={**RECIPE, "within": "domain"}, callbacks=[recorder]
    )
    of_it = next(one.run for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback))
    recorder.follow(trainer, of_it)
    trainer.train()
    return trainer, recorder, held


def test_a_run_counts_and_measures_each_of_them(run: Any) -> None:
    trainer, _, _ = run
    out = Path(trainer.args.output_dir)
    assert events(out, "run")[0]["rows_by_domain"] == sizes(TRAIN)
    probed = events(out, "probes")
    assert all(set(event["domains"]) == set(NAMES) for event in probed)
    assert len({event["loss"] for event in probed[0]["domains"].values()}) == len(NAMES)
    assert {f"campus/competence/{name}" for name in NAMES} <= {
        key for line in trainer.state.log_history for key in line
    }


def test_every_row_is_ranked_in_its_own(run: Any) -> None:
    trainer, _, _ = run
    of_it = next(one.run for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback))
    names, codes = of_it.situation.domains.names, of_it.situation.domains.codes
    assert [names[code] for code in codes] == trainer.train_dataset["domain"][:]


def test_a_comparison_records_each_of_them(run: Any) -> None:
    _, recorder, held = run
    end = recorder.end()
    assert end is not None
    assert end["domains"] == sorted(NAMES)
    assert [end["domains"][code] for code in end["domain"]] == list(held.domains)
    nats, tokens = np.array(end["loss"]), np.array(end["tokens"])
    for name, curve in recorder.curve()["domains"].items():
        mine = [domain == name for domain in held.domains]
        assert curve[-1] == pytest.approx(nats[mine].sum() / tokens[mine].sum(), rel=1e-12)


def test_probes_keep_as_many_rows_of_each_as_the_recipe_says(run: Any) -> None:
    trainer, _, _ = run
    probes = load_probes(dataset(PROBES), ProbeSettings(("x",), max_rows=4), trainer)
    assert {name: len(rows) for name, rows in probes.domains.items()} == {
        n: min(4, k) for n, k in sizes(PROBES).items()
    }
    assert [probes.dataset[int(row)]["domain"] for rows in probes.domains.values() for row in rows] == [
        name for name, rows in probes.domains.items() for _ in rows
    ]
