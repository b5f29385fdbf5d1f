from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from campus_tune.data.prepared import TokenRows, read_rows
from campus_tune.model.peers import Peers
from campus_tune.model.probes import FEWEST, ProbeMeter, Probes, load_probes, refuse_overlap
from campus_tune.recipe.blocks import ProbeSettings
from campus_tune.words.errors import DataError
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, assert_close, events

PROBES = task_rows(20, seed=77)
DOMAINS = sorted({row["domain"] for row in PROBES})


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer without a curriculum: probes are prepared by it."""
    return tiny_trainer(tmp_path_factory.mktemp("probes"), config=False, n=24)


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_each_domain_are_found_from_every_kind_of_source(trainer: Any, tmp_path: Path) -> None:
    half = len(PROBES) // 2
    paths = [jsonl(tmp_path / "a.jsonl", PROBES[:half]), jsonl(tmp_path / "b.jsonl", PROBES[half:])]
    whole = jsonl(tmp_path / "all.jsonl", PROBES)
    by_domain = {name: dataset([row for row in PROBES if row["domain"] == name]) for name in DOMAINS}
    by_file = {name: jsonl(tmp_path / f"{name}.jsonl", list(rows)) for name, rows in by_domain.items()}
    sources = [dataset(PROBES), whole, str(whole), paths, [str(path) for path in paths], by_domain, by_file]
    expected = {name: sum(row["domain"] == name for row in PROBES) for name in DOMAINS}
    for source in sources:
        probes = load_probes(source, None, trainer)
        assert {name: len(rows) for name, rows in probes.domains.items()} == expected
        assert len(probes.rows) == 20
        for name, rows in probes.domains.items():
            assert {probes.dataset[int(row)]["domain"] for row in rows} == {name}


def test_a_mapping_names_the_domains_whatever_column_its_rows_have(trainer: Any) -> None:
    probes = load_probes({"easy": dataset(PROBES[:5]), "hard": dataset(PROBES[5:])}, None, trainer)
    assert {name: len(rows) for name, rows in probes.domains.items()} == {"easy": 5, "hard": 15}


def test_probes_without_a_domain_column_are_one_domain(trainer: Any) -> None:
    probes = load_probes(dataset(PROBES).remove_columns("domain"), None, trainer)
    assert {name: len(rows) for name, rows in probes.domains.items()} == {"all": 20}


def test_probes_are_prepared_as_the_training_rows_were(trainer: Any) -> None:
    probes = load_probes(dataset(task_rows(24)), None, trainer)  # the training rows themselves
    assert probes.rows.fingerprint() == read_rows(trainer.train_dataset).fingerprint()


def sums(first: int, n: int) -> Any:
    return dataset([{"text": f"{i} and {i} is {2 * i}" + " indeed" * (i % 7)} for i in range(first, first + n)])


@pytest.mark.parametrize("field", ["text", "said"])
def test_probes_are_formatted_as_the_training_rows_are(field: str, tmp_path: Path) -> None:
    """`formatting_func` and `dataset_text_field`: TRL puts what the function gives into `text`."""
    settings: dict[str, Any] = {"trainer_args": {"formatting_func": lambda row: f"### Sum:\n{row['text']}\n### End"}}
    rows, held_out = sums(0, 8), sums(50, 8)
    if field == "said":
        settings = {"dataset_text_field": field}
        rows, held_out = (data.rename_column("text", field) for data in (rows, held_out))
    formatted = tiny_trainer(tmp_path, config=False, train=rows, **settings)
    probes = load_probes(held_out, None, formatted)
    assert all(row["input_ids"] != other["input_ids"] for row in formatted.train_dataset for other in probes.dataset)
    told = formatted.processing_class.decode(probes.dataset[0]["input_ids"], skip_special_tokens=True)
    assert told == ("50 and 50 is 100 indeed" if field == "said" else "### Sum:\n50 and 50 is 100 indeed\n### End")
    same = load_probes(rows, None, formatted)  # the training rows themselves
    assert same.rows.fingerprint() == read_rows(formatted.train_dataset).fingerprint()


def test_probes_are_as_they_come_where_the_training_rows_are(tmp_path: Path) -> None:
    ids = [[5 + i, *range(6, 40)] for i in range(8)]
    rows = dataset([{"input_ids": row, "labels": row} for row in ids])
    skipping = tiny_trainer(
        tmp_path, config=False, train=rows, max_length=10, dataset_kwargs={"skip_prepare_dataset": True}
    )
    probes = load_probes(dataset([{"input_ids": [9, *row], "labels": [9, *row]} for row in ids]), None, skipping)
    assert read_rows(skipping.train_dataset).tokens.tolist() == [35] * 8
    assert probes.rows.tokens.tolist() == [36] * 8  # not cut at 10, for the training rows are not


def test_the_recipes_column_and_cap_are_used(trainer: Any) -> None:
    probes = load_probes(dataset(PROBES), ProbeSettings(("x",), domain_column="level", max_rows=2), trainer)
    assert set(probes.domains) == {"0", "1", "2", "3", "4"}
    assert all(len(rows) == 2 for rows in probes.domains.values())


def test_a_missing_domain_column_is_answered_with_the_nearest_one(trainer: Any) -> None:
    with pytest.raises(
        DataError, match=r"`probes: domain_column` must be a column .* got 'levle'\. Did you mean 'level'"
    ):
        load_probes(dataset(PROBES), ProbeSettings(("x",), domain_column="levle"), trainer)


@pytest.mark.parametrize("empty", [Dataset.from_list([]), {}], ids=["a dataset", "a mapping"])
def test_no_probe_rows_are_refused(empty: Any, trainer: Any) -> None:
    with pytest.raises(DataError, match="`probes` must have at least one row, got none"):
        load_probes(empty, None, trainer)


def test_a_domain_without_rows_is_named(trainer: Any) -> None:
    with pytest.raises(DataError, match="probe domain 'hard' must have at least one row, got none"):
        load_probes({"easy": dataset(PROBES), "hard": dataset(PROBES).select([])}, None, trainer)


def test_a_domain_whose_answers_are_all_cut_off_is_named(tmp_path: Path) -> None:
    short = tiny_trainer(tmp_path, config=False, n=24, max_length=250)
    long_prompt = {**PROBES[0], "prompt": [{"role": "user", "content": "why " * 400}], "domain": "endless"}
    with pytest.raises(DataError, match=r"probe domain 'endless' must keep rows with an answer .* raise max_length"):
        load_probes(dataset([*PROBES, long_prompt]), None, short)


@pytest.mark.parametrize("source", [7, [7], iter([])], ids=["a number", "a list of numbers", "an iterator"])
def test_a_source_of_another_kind_is_refused(source: Any, trainer: Any) -> None:
    with pytest.raises(DataError, match="`probes` must be a path, a Dataset or a mapping domain → Dataset"):
        load_probes(source, None, trainer)


def test_probes_of_another_shape_than_the_training_rows_are_told_from_a_crash(trainer: Any) -> None:
    rows = dataset([{"question": "1 + 1?", "answer": "2", "domain": "arithmetic"}])
    message = (
        r"rows as the training set's, got the columns question, answer, domain, .* formatting_func included: give them"
    )
    with pytest.raises(DataError, match=message):
        load_probes(rows, None, trainer)


def test_a_file_that_is_not_there_is_named(trainer: Any, tmp_path: Path) -> None:
    jsonl(tmp_path / "probes.jsonl", PROBES)
    with pytest.raises(DataError, match=r"probe\.jsonl.*Did you mean 'probes\.jsonl'"):
        load_probes(tmp_path / "probe.jsonl", None, trainer)


# -- which rows are measured ------------------------------------------------------------------------------------------


def token_rows(tokens: Any) -> TokenRows:
    tokens = np.asarray(tokens, dtype=np.int64)
    ids = np.arange(len(tokens), dtype=np.uint64)
    return TokenRows(tokens, tokens - 1, ids, np.zeros_like(tokens), ids, ids, ids)


def big() -> Probes:
    domains = {"a": np.arange(0, 100), "b": np.arange(100, 140), "c": np.arange(140, 145)}
    return Probes(None, token_rows(np.full(145, 20)), domains)


def test_the_subset_follows_what_a_measurement_may_cost() -> None:
    sizes = {name: len(rows) for name, rows in big().subset(145 * 20 / 2, seed=0).items()}
    assert sizes == {"a": 50, "b": 20, "c": 5}
    assert sum(sizes.values()) * 20 <= 145 * 20 / 2 + FEWEST * 20


def test_a_domain_keeps_the_fewest_rows_that_mean_something_and_never_more_than_it_has() -> None:
    assert {name: len(rows) for name, rows in big().subset(1.0, seed=0).items()} == {"a": FEWEST, "b": FEWEST, "c": 5}
    assert {name: len(rows) for name, rows in big().subset(1e9, seed=0).items()} == {"a": 100, "b": 40, "c": 5}


def test_the_subset_is_the_same_every_time_and_grows_without_dropping_rows() -> None:
    small, large = big().subset(600.0, seed=4), big().subset(1200.0, seed=4)
    for name in small:
        assert small[name].tolist() == big().subset(600.0, seed=4)[name].tolist()
        assert set(small[name]) <= set(large[name]) <= set(big().domains[name])
    assert small["a"].tolist() != big().subset(600.0, seed=5)["a"].tolist()


def test_losses_of_each_domain_are_those_of_its_rows(trainer: Any) -> None:
    probes = load_probes(dataset(PROBES), None, trainer)
    chosen = probes.subset(1e9, seed=0)
    meter = ProbeMeter(trainer, probes, chosen, Peers())
    assert meter.tokens == int(probes.rows.tokens.sum())
    measured, _ = meter.measure()
    assert list(measured) == DOMAINS
    for name, losses in measured.items():
        assert_close(losses, all_slow_losses(trainer, chosen[name], probes.dataset))


# -- held out ---------------------------------------------------------------------------------------------------------


def test_probes_that_are_training_rows_are_named_in_pairs(trainer: Any) -> None:
    training = read_rows(trainer.train_dataset)
    probes = load_probes(dataset([*PROBES[:3], *task_rows(24)[4:6]]), None, trainer)
    with pytest.raises(DataError, match="got 2 that are in it") as error:
        refuse_overlap(probes, training)
    assert "probe 3 = row 4" in str(error.value)
    assert "probe 4 = row 5" in str(error.value)
    refuse_overlap(load_probes(dataset(PROBES), None, trainer), training)


def test_a_run_with_probes_from_its_training_set_stops_before_its_first_step(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=16, probes=dataset(task_rows(16)[:2]))
    with pytest.raises(DataError, match="probe rows must be held out of the training set, got 2 that are in it"):
        trainer.train()
    assert trainer.state.global_step == 0


# -- in a run ---------------------------------------------------------------------------------------------------------


def test_probes_are_measured_around_every_stage_and_weighted_as_the_training_rows_are(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=30, config=RECIPE | {"budget": 5.0, "selector": "matched"}, probes=30)
    before = trainer.model.state_dict()["model.embed_tokens.weight"].clone()
    trainer.train()
    assert not before.equal(trainer.model.state_dict()["model.embed_tokens.weight"])
    probed = events(tmp_path, "probes")
    decisions = events(tmp_path, "decision")
    assert [event["step"] for event in probed] == [decision["step"] for decision in decisions] + [8]
    sizes = events(tmp_path, "run")[0]["rows_by_domain"]
    overall = sum(sizes[name] / 30 * probed[0]["domains"][name]["loss"] for name in sizes)
    for offer in decisions[0]["offers"]:
        assert offer["distance"] == pytest.approx(abs(offer["loss"] - overall), abs=2e-6)
    for name, report in probed[-1]["domains"].items():
        assert report["competence"] == pytest.approx(np.exp(-report["loss"]))
        assert 0 <= report["token_accuracy"] <= 1
        assert report["loss"] < probed[0]["domains"][name]["loss"]
