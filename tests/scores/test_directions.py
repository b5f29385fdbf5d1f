"""`influence`: scores are products of exact gradients, before training and later; what they cost and hang on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.cli.score import prepare
from campus_tune.metrics import Influence
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import ProbeGradient, halves, mean_gradient
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores import directions, passages, row_cache
from campus_tune.scores.asking import Asking
from campus_tune.scores.directions import AGREEMENT, agreement_warning, direction_problems, launch_problems
from campus_tune.scores.fresh import FreshScores
from campus_tune.scores.rescore import Rescorer
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray, Json
from tests.model.test_probe_gradients import by_hand
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import events
from tests.scores.test_passages import Counter

N = 40
DOMAINS = ("arithmetic", "calendar", "code", "lists", "text")
PROBES = 60  # twelve of each domain
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def probe_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("probes") / "probes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in task_rows(PROBES, seed=77)), "utf-8")
    return str(path)


def trainer_of(out: Path, **settings: Any) -> Any:
    trainer = tiny_trainer(out, config=False, **{"n": N, "lora": True, "num_train_epochs": 8, **settings})
    for name, weight in trainer.model.named_parameters():  # fresh adapters have no gradient in A
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(5))
    return trainer


def asking(trainer: Any, probe_file: str, metrics: list[Any], cache: Path, **settings: Any) -> Asking:
    config = CampusConfig.from_mapping(
        {"metrics": metrics, "selector": "round_robin", "probes": {"path": probe_file}, "scores": str(cache)}
        | {"budget": 8.0, "seed": 3, "stages": 4, "rescore": 0, **settings}
    )
    return prepare(trainer, config)[0]


def product(first: ProbeGradient, second: ProbeGradient) -> float:
    return sum(float((part.double() * second.of[name].double()).sum()) for name, part in first.of.items())


def exact(trainer: Any, made: Asking, domains: tuple[str, ...], rows: IntArray) -> FloatArray:
    """Per answer token, of each row: a backward for the row, one for each half of each domain's probes."""
    found = made.passages.directions
    assert found is not None
    model = Deaf(trainer.model)
    of_probes = SimpleNamespace(model=model, train_dataset=found.probes.dataset)
    of_rows = SimpleNamespace(model=model, train_dataset=trainer.train_dataset)
    chosen = found.rows("all" if len(domains) > 1 else domains[0], *found.allowance())
    assert set(chosen) == set(domains)
    towards = mean_gradient([by_hand(of_probes, half) for places in chosen.values() for half in halves(places, 3)])
    return np.array([product(by_hand(of_rows, [row]), towards) for row in rows])


class Deaf:
    """A model whose hooks are not told."""

    def __init__(self, model: Any) -> None:
        self.train, self.named_parameters = model.train, model.named_parameters
        self.eval = lambda: [model.eval(), self][1]
        self.called = model.forward

    def __call__(self, **inputs: Any) -> Any:
        return self.called(**inputs)


def assert_exact(scores: FloatArray, wanted: FloatArray) -> None:
    np.testing.assert_allclose(scores, wanted, atol=0.01 * wanted.std(), rtol=0)


# -- the scores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_scores_are_the_products_of_exact_gradients(lora: bool, tmp_path: Path, probe_file: str) -> None:
    trainer = trainer_of(tmp_path, lora=lora)
    entries = [
        "influence",
        {"name": "-influence", "probe": "code"},
        {"name": "influence", "label": "whole", "reduce": "sum"},
    ]
    entries[1]["label"] = "-code"  # type: ignore[index]
    made = asking(trainer, probe_file, entries, tmp_path / "cache")
    scores, every = made.start(), np.arange(N)
    towards_all = exact(trainer, made, DOMAINS, every)
    assert_exact(scores.by_label["influence"], towards_all)
    assert_exact(scores.by_label["whole"], towards_all * made.passages.rows.answer_tokens)
    assert_exact(-scores.by_label["-code"], exact(trainer, made, ("code",), every))
    notes = scores.notes["influence"]
    assert notes["rows_measured"] == N
    assert notes["probe_rows"] == PROBES
    assert -1 <= notes[AGREEMENT] <= 1


def test_a_step_on_the_rows_of_the_highest_scores_lowers_the_loss_of_the_probes_the_most(
    tmp_path: Path, probe_file: str
) -> None:
    trainer = trainer_of(tmp_path, n=100)
    made = asking(trainer, probe_file, [{"name": "influence", "probe": "code"}], tmp_path / "cache")
    order = np.argsort(made.start().by_label["influence"])
    found = made.passages.directions
    assert found is not None
    of_probes = SimpleNamespace(model=trainer.model, train_dataset=found.probes.dataset)
    places = found.probes.domains["code"]
    before, after = by_hand(of_probes, places).loss, []
    for rows in (order[:10], order[-10:]):
        step = by_hand(trainer, rows)
        weights = dict(trainer.model.named_parameters())
        with torch.no_grad():
            for name, part in step.of.items():
                weights[name] -= 0.05 * part
        after.append(by_hand(of_probes, places).loss)
        with torch.no_grad():
            for name, part in step.of.items():
                weights[name] += 0.05 * part
    assert after[1] < before
    assert after[1] < after[0]


# -- the cache ----------------------------------------------------------------------------------------------------


def test_scores_that_are_known_take_no_forward_and_cost_the_same(tmp_path: Path, probe_file: str) -> None:
    trainer = trainer_of(tmp_path)
    counter = Counter(trainer)
    first = asking(trainer, probe_file, ["influence"], tmp_path / "cache")
    before = first.start()
    assert counter.since() >= 2 * N + 2 * PROBES  # the backwards go past hooks
    again = asking(trainer, probe_file, ["influence"], tmp_path / "cache")
    after = again.start()
    assert counter.since() == 0
    assert after.by_label["influence"].tolist() == before.by_label["influence"].tolist()
    assert after.notes == before.notes
    assert again.budget.spent == first.budget.spent
    assert (first.budget.found["scoring"], again.budget.found["scoring"]) == (0, first.budget.spent["scoring"])


def test_what_is_charged_is_two_forwards_of_each_row_and_the_direction(tmp_path: Path, probe_file: str) -> None:
    made = asking(trainer_of(tmp_path), probe_file, ["influence"], tmp_path / "cache")
    made.start()
    found, tokens = made.passages.directions, made.passages.rows.tokens
    assert found is not None
    probes = sum(found.probes.rows.tokens[rows].sum() for rows in found.rows("all", *found.allowance()).values())
    once = np.ceil(probes * (1 / made.budget.ratio + 2))
    assert made.budget.spent["scoring"] == 2 * tokens.sum() + once
    assert once <= directions.PART * made.budget.part("scoring")


def key_of(made: Asking) -> Any:
    return made.passages.known.key(made.questions.passages[0])


def test_other_weights_probes_or_settings_are_other_scores(tmp_path: Path, probe_file: str) -> None:
    def key(name: str, metric: Any = "influence", **settings: Any) -> Any:
        change = settings.pop("change", None)
        trainer = trainer_of(tmp_path / name, **settings.pop("trainer", {}))
        if change is not None:
            change(trainer.model)
        return key_of(asking(trainer, settings.pop("probes", probe_file), [metric], tmp_path / "cache", **settings))

    def first(part: str) -> Any:
        def change(model: torch.nn.Module) -> None:
            weight = next(one for name, one in model.named_parameters() if part in name)
            with torch.no_grad():
                weight.view(-1)[0] += 1e-3

        return change

    def scale(model: torch.nn.Module) -> None:
        next(one for one in model.modules() if isinstance(getattr(one, "scaling", None), dict)).scaling["default"] *= 2

    def freeze(model: torch.nn.Module) -> None:
        next(one for name, one in model.named_parameters() if "lora_B" in name).requires_grad_(False)

    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in task_rows(PROBES, seed=78)), "utf-8")
    usual = key("usual")
    assert key("again").digest() == usual.digest()
    assert key("sum", {"name": "influence", "reduce": "sum"}).digest() == usual.digest()  # the same slopes
    others = {
        "code": key("code", {"name": "influence", "probe": "code"}),
        "base": key("base", change=first("embed_tokens")),
        "adapter": key("adapter", change=first("lora_A")),
        "scaling": key("scaling", change=scale),
        "frozen": key("frozen", change=freeze),
        "probes": key("probes", probes=str(other)),
        "fewer probes": key("fewer", budget=0.5),
        "which half": key("halves", seed=4),
        "full": key("full", trainer={"lora": False}),
    }
    digests = {name: one.digest() for name, one in others.items()}
    assert len({usual.digest(), *digests.values()}) == 1 + len(others)


def test_an_adapter_that_changes_nothing_yet_has_slopes_of_its_own(tmp_path: Path, probe_file: str) -> None:
    keys = []
    for seed in (0, 1):
        trainer = tiny_trainer(tmp_path / str(seed), config=False, n=N, lora=True)
        for name, weight in trainer.model.named_parameters():
            if "lora_A" in name:
                torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(seed))
        made = asking(trainer, probe_file, ["influence", "loss"], tmp_path / "cache")
        keys.append([made.passages.known.key(passage).digest() for passage in made.questions.passages])
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]  # while losses are the same


class KilledError(Exception):
    """The process ended here."""


def test_a_scoring_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, probe_file: str, monkeypatch: Patch) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", 15)
    trainer = trainer_of(tmp_path)
    calm = asking(trainer, probe_file, ["influence"], tmp_path / "calm").start()
    keep, kept = row_cache.RowCache.keep, [0]

    def dies(self: Any, *args: Any) -> None:
        if kept[0] == 2:
            raise KilledError
        kept[0] += 1
        keep(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(row_cache.RowCache, "keep", dies)
        with pytest.raises(KilledError):
            asking(trainer, probe_file, ["influence"], tmp_path / "cache").start()
    counter = Counter(trainer)
    made = asking(trainer, probe_file, ["influence"], tmp_path / "cache")
    scores = made.start()
    assert made.passages.timings[-1].found == 30
    assert counter.since() < 2 * N + 2 * PROBES
    np.testing.assert_allclose(scores.by_label["influence"], calm.by_label["influence"], rtol=1e-3, atol=1e-5)
    assert scores.notes == calm.notes


def test_without_a_cache_nothing_is_hashed(tmp_path: Path, probe_file: str, monkeypatch: Patch) -> None:
    made = asking(trainer_of(tmp_path), probe_file, ["influence"], tmp_path / "cache")
    made.passages.known.cache = type(made.passages.cache)(None)
    monkeypatch.setattr(directions, "trained_fingerprint", None)
    assert key_of(made).settings == {"towards": "all"}
    assert made.start().notes["influence"]["rows_measured"] == N


# -- in a run -----------------------------------------------------------------------------------------------------

RUN: Json = {
    "metrics": ["-influence", "length"],
    "stages": 6,
    "rescore": 2,
    "handover": 1.0,
    "budget": 6.0,
    "mix": 0.2,
    "selector": "round_robin",
}
SETTINGS: Json = {"config": RUN, "n": 96, "per_device_train_batch_size": 8, "lora": True, "probes": PROBES}


def run(out: Path, *callbacks: Any, **changes: Any) -> Any:
    return tiny_trainer(out, callbacks=list(callbacks), **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    trainer = run(tmp_path_factory.mktemp("calm"))
    trainer.train()
    return trainer, os.environ["CAMPUS_TUNE_CACHE"]


def test_rows_that_wait_are_scored_by_the_gradients_of_the_moment(tmp_path: Path, monkeypatch: Patch) -> None:
    trainer, seen, measured = run(tmp_path), list[Any](), list[IntArray]()
    again, affordable = Rescorer.again, Rescorer._affordable

    def keep(rescorer: Rescorer, *given: Any) -> IntArray:
        measured.append(affordable(rescorer, *given))
        return measured[-1]

    def look(rescorer: Rescorer, n_left: int) -> Any:
        before = dict(rescorer.asking.budget.spent)
        told = again(rescorer, n_left)
        rows = measured[-1]
        spent = rescorer.asking.budget.spent["rescoring"] - before["rescoring"]
        wanted = exact(trainer, rescorer.asking, DOMAINS, rows)
        seen.append((rescorer.scores.by_label["-influence"][rows], wanted, rows, spent, rescorer.asking))
        return told

    monkeypatch.setattr(Rescorer, "again", look)
    monkeypatch.setattr(Rescorer, "_affordable", keep)
    trainer.train()
    assert len(seen) == 2
    for scores, wanted, rows, spent, made in seen:
        assert len(rows) >= 32
        assert_exact(-scores, wanted)
        assert spent == 2 * made.passages.rows.tokens[rows].sum() + made.extra_tokens()
    assert all("probe_rows" in line["orders"]["-influence"] for line in events(tmp_path, "rescored"))


def test_a_run_stopped_around_a_re_scoring_goes_on_as_if_it_had_not(tmp_path: Path, calm: Any) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, SaveAt(3, 5), StopAfter(3)).train()
    with pytest.raises(StoppedError):
        run(tmp_path, SaveAt(3, 5), StopAfter(5)).train(resume_from_checkpoint=True)
    trainer = run(tmp_path)
    trainer.train(resume_from_checkpoint=True)
    assert_same(outcome(trainer), outcome(calm[0]))


def test_a_run_killed_while_its_model_is_moved_goes_on_as_if_it_had_not(
    tmp_path: Path, calm: Any, monkeypatch: Patch
) -> None:
    trainer, moves, move = run(tmp_path, SaveAt(2)), [0], passages.SlopeMeter.measure

    def dies(self: Any, rows: IntArray, **rest: Any) -> Any:
        moves[0] += 1
        if moves[0] == 2:
            before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}

            def ctrl_c(_: Any) -> Any:
                raise KeyboardInterrupt

            self.meter.losses = ctrl_c
            try:
                move(self, rows, **rest)
            finally:
                del self.meter.losses
                now = dict(trainer.model.named_parameters())
                assert all(torch.equal(one, now[name]) for name, one in before.items())
        return move(self, rows, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(passages.SlopeMeter, "measure", dies)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    trainer = run(tmp_path)
    trainer.train(resume_from_checkpoint=True)
    assert_same(outcome(trainer), outcome(calm[0]))


def test_a_full_cache_decides_as_an_empty_one(tmp_path: Path, calm: Any, monkeypatch: Patch) -> None:
    monkeypatch.setenv("CAMPUS_TUNE_CACHE", calm[1])
    assert events(Path(calm[0].args.output_dir), "end")[0]["found"] == 0
    trainer = run(tmp_path)
    trainer.train()
    assert_same(outcome(trainer), outcome(calm[0]))
    assert events(tmp_path, "end")[0]["found"] > 0


def test_a_budget_that_does_not_pay_for_all_rows_takes_a_sample_and_predicts_the_others(tmp_path: Path) -> None:
    run(tmp_path, n=200, config={**RUN, "budget": 1.4, "rescore": 0}).train()
    (line,) = [line for line in events(tmp_path, "scores") if line["metric"] == "-influence"]
    assert line["rows_measured"] < 200
    assert "prediction_correlation" in line
    end = events(tmp_path, "end")[0]
    assert end["cost"]["all"] <= 1.4


# -- what is refused ----------------------------------------------------------------------------------------------


def influence(**options: Any) -> CampusConfig:
    return CampusConfig(metrics=[{"name": "influence", **options}], selector="fixed")


def test_a_recipe_without_probes_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"`influence` must have probes to say what lowers their loss, got none\. Give"
    ):
        influence().resolved(has_probes=False, domain_in_data=False, seed=0)
    thinned = CampusConfig.from_mapping({"selector": "shuffle", "thin": {"how": "top", "by": "influence", "keep": 0.5}})
    with pytest.raises(RecipeError, match=r"`influence` must have probes"):
        thinned.resolved(has_probes=False, domain_in_data=False, seed=0)
    assert influence().resolved(has_probes=True, domain_in_data=False, seed=0).selector == "fixed"


def test_a_domain_that_is_not_probed_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (told,) = direction_problems(influence(probe="maths"), {"math": 30, "code": 30})
    assert told.startswith("`influence: probe` must be a domain of the probes (math, code), got 'maths'. Did you mean")
    assert direction_problems(influence(probe="math"), {"math": 30, "code": 3}) == []
    assert direction_problems(CampusConfig(metrics=["length"]), {"math": 1}) == []
    with pytest.raises(RecipeError, match=r"`influence: probe` must be a domain of the probes \(arithmetic, calendar"):
        run(tmp_path, config={**RUN, "metrics": [{"name": "influence", "probe": "cod"}], "selector": "fixed"}).train()
    assert not (tmp_path / "curriculum" / "ledger.jsonl").exists()


def test_too_few_probes_are_refused() -> None:
    (told,) = direction_problems(influence(), {"math": 30, "code": 7})
    assert "must have 8 probe rows or more of each domain" in told
    assert "got fewer: code has 7. Give more of them" in told


@pytest.mark.parametrize(("kind", "said"), [("fsdp", "FSDP"), ("deepspeed", "DeepSpeed")])
def test_weights_that_are_dealt_out_are_refused(kind: str, said: str) -> None:
    trainer: Any = SimpleNamespace(
        model=torch.nn.Linear(1, 1), is_fsdp_enabled=kind == "fsdp", is_deepspeed_enabled=kind == "deepspeed"
    )
    (told,) = launch_problems(influence(), trainer)
    assert f"all trained weights in each process to move them, got {said}, which deals them out. Launch with" in told
    assert launch_problems(CampusConfig(metrics=["loss"]), trainer) == []


def test_a_model_of_which_nothing_is_trained_is_refused() -> None:
    model = torch.nn.Linear(1, 1).requires_grad_(False)
    trainer: Any = SimpleNamespace(model=model, is_fsdp_enabled=False, is_deepspeed_enabled=False)
    (told,) = launch_problems(influence(), trainer)
    assert "must have weights that are trained, got none. Train some, or drop the metric." in told


def test_halves_of_the_probes_that_disagree_are_told() -> None:
    assert agreement_warning("influence", {AGREEMENT: 0.5, "probe_rows": 20}) is None
    assert agreement_warning("loss", {}) is None
    told = agreement_warning("influence", {AGREEMENT: 0.04, "probe_rows": 20})
    assert told is not None
    assert "two halves of its 20 probe rows hardly agree on which way their loss rises (cosine 0.04)" in told


def test_a_direction_has_the_same_rows_for_the_same_budget_and_more_for_a_larger_one(
    tmp_path: Path, probe_file: str
) -> None:
    sizes = []
    for budget in (0.2, 4.0, 8.0):
        made = asking(trainer_of(tmp_path), probe_file, ["influence"], tmp_path / "cache", budget=budget)
        found = made.passages.directions
        assert found is not None
        rows = found.rows("all", *found.allowance())
        assert {name: places.tolist() for name, places in rows.items()} == {
            name: places.tolist() for name, places in found.rows("all", *found.allowance()).items()
        }
        sizes.append(sum(map(len, rows.values())))
    assert sizes[0] < sizes[1] <= sizes[2]


def test_half_precision_goes_farther(tmp_path: Path, probe_file: str) -> None:
    trainer = trainer_of(tmp_path)
    made = asking(trainer, probe_file, ["influence"], tmp_path / "cache")
    usual = key_of(made).settings["moves"]
    trainer.model.to(torch.bfloat16)
    assert key_of(made).settings["moves"] > usual


def test_the_metric_is_a_card_of_one_passage() -> None:
    assert [str(passage) for passage in Influence().passages] == ["slopes towards all probes"]
    assert [str(passage) for passage in Influence(probe="code").passages] == ["slopes towards code probes"]
    assert Influence().competence_aware
    assert Peers().leads


# -- candidates ---------------------------------------------------------------------------------------------------


def test_candidates_of_a_stage_are_taken_by_their_slopes_of_the_moment(tmp_path: Path, monkeypatch: Patch) -> None:
    recipe = {
        "selector": "shuffle",
        "thin": {"how": "top", "by": "influence", "keep": 0.5, "fresh": True},  # the most helpful half of each stage
        "stages": 4,
        "budget": 10.0,
    }
    trainer, seen, call = run(tmp_path, config=recipe), list[Any](), FreshScores.__call__

    def look(fresh: FreshScores, rows: Any) -> FloatArray:
        before = fresh.asking.budget.spent["thinning"]
        values = call(fresh, rows)
        cost = fresh.asking.budget.spent["thinning"] - before
        wanted = exact(trainer, fresh.asking, DOMAINS, rows[:10])
        assert cost == fresh.once + fresh.price[rows].sum()
        assert fresh.once > 0
        seen.append((values[:10], wanted))
        return values

    monkeypatch.setattr(FreshScores, "__call__", look)
    trainer.train()
    assert len(seen) >= 3
    for values, wanted in seen:
        assert_exact(values, wanted)
    end = events(tmp_path, "end")[0]
    assert end["cost"]["thinning"] > 0
    assert end["cost"]["all"] <= 10.0
