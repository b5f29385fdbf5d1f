"""Values in whole runs: what is written, that nothing else changes, resumes, what it costs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from campus_tune.method.budget import VALUE
from campus_tune.run.callback import CampusCallback
from campus_tune.run.ledger import read_ledger
from campus_tune.run.stage_visits import FOLDER
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, RecipeError, ResumeError
from campus_tune.words.types import Json
from tests.run.test_resume import LOSSY, MATCHED, assert_same, outcome, resumed
from tests.run.test_rollback_in_runs import STEERED, Spoils
from tests.run.test_user_weights import columns
from tests.run.tiny_run import RECIPE, history_of, ledger_of, task_rows, tiny_trainer, weights_of
from tests.run.witness import events

PROBES = task_rows(150, seed=77)  # 30 of each domain
DOMAINS = sorted({row["domain"] for row in PROBES})
SUMS = [row for row in PROBES if row["domain"] == "arithmetic"]
MUCH = {"budget": 10.0}
ASKS = {**RECIPE, "value": MUCH}


def valued(out: Path, **settings: Any) -> Any:
    return tiny_trainer(out, **{"config": ASKS, "n": 48, "probes": SUMS, "lora": True, **settings})


def values_of(out: Path, stage: int) -> Any:
    return read_columns(out / "curriculum" / FOLDER / file_of_stage(stage))[0]


def names_in(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "curriculum" / FOLDER).iterdir())


def without_dropout(trainer: Any) -> Any:
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return trainer


def run_of(trainer: Any) -> Any:
    return next(one.run for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback))


class Exact(TrainerCallback):
    """⟨∇ of each row's loss, ∇ of each half's mean loss⟩ before a step, by nothing but autograd."""

    def __init__(self, step: int = 0) -> None:
        self.step, self.values = step, {}
        self.trainer: Any = None
        self.divisors: list[torch.Tensor] | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        if state.global_step != self.step:
            return
        now = run_of(self.trainer).situation
        probes, groups = now.probing.probes.dataset, now.valuing.groups
        halves = {name: self.gradient([probes[int(row)] for row in rows], mean=True) for name, rows in groups.items()}
        for row, one in enumerate(self.trainer.train_dataset):
            own = self.gradient([one])
            self.values[row] = {name: self.product(own, half) for name, half in halves.items()}

    def product(self, own: list[torch.Tensor], half: list[torch.Tensor]) -> float:
        by = self.divisors or [torch.ones(())] * len(own)
        return sum(float((a.double() * b.double() / c).sum()) for a, b, c in zip(own, half, by, strict=True))

    def gradient(self, rows: Any, *, mean: bool = False) -> list[torch.Tensor]:
        model, total, n = self.trainer.model, torch.zeros(()), 0
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        model.eval()
        for row in rows:
            labels = torch.tensor(row["labels"])[1:]
            logits = model.base_model.model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
            n += int((labels != -100).sum())
        model.train()
        return list(torch.autograd.grad(total / n if mean else total, weights))


# -- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"padding_free": True, "max_length": None}], ids=["padded", "flat"])
def test_values_are_each_rows_own_gradient_along_the_probes(settings: Any, tmp_path: Path) -> None:
    exact = Exact()
    trainer = without_dropout(valued(tmp_path, n=16, probes=PROBES, callbacks=[exact], max_steps=1, **settings))
    exact.trainer = trainer
    trainer.train()
    columns = values_of(tmp_path, 0)
    names = [f"{half} {domain}" for domain in DOMAINS for half in "ab"]
    assert list(columns) == ["row", "tokens", "rate", "step_tokens", *names]
    assert len(columns["row"]) == 4
    for i, row in enumerate(columns["row"].tolist()):
        for name in names:
            assert columns[name][i] == pytest.approx(exact.values[row][name], rel=2e-3, abs=1e-4)
    assert columns["rate"].tolist() == [3e-3] * 4
    labels = [trainer.train_dataset[int(row)]["labels"] for row in columns["row"]]
    assert columns["tokens"].tolist() == [sum(label != -100 for label in one[1:]) for one in labels]
    assert columns["step_tokens"].tolist() == [columns["tokens"].sum()] * 4
    assert {name: columns[name].dtype.str for name in ("row", names[0])} == {"row": "<i4", names[0]: "<f4"}


@pytest.mark.parametrize("n", [21, 22])
def test_the_last_step_of_an_epoch_may_have_fewer_rows_and_micro_batches(n: int, tmp_path: Path) -> None:
    exact, size = Exact(step=2), {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    exact.trainer = without_dropout(valued(tmp_path, n=n, callbacks=[exact], **size))
    exact.trainer.train()
    columns = values_of(tmp_path, 2)
    assert len(columns["row"]) == n - 16
    for name in ("a arithmetic", "b arithmetic"):
        wanted = [exact.values[row][name] for row in columns["row"].tolist()]
        assert columns[name] == pytest.approx(wanted, rel=2e-3, abs=1e-4)


def test_values_say_how_much_a_step_lowers_the_loss_of_the_probes(tmp_path: Path) -> None:
    """To first order: a step of plain gradient descent takes Σ rate/N·value off a half's loss."""

    class Around(TrainerCallback):
        losses: list[float] = []  # noqa: RUF012

        def measure(self) -> None:
            now = run_of(trainer).situation
            rows = [now.probing.probes.dataset[int(row)] for row in now.valuing.groups["a arithmetic"]]
            total, n = 0.0, 0
            for row in rows:
                labels = torch.tensor(row["labels"])[1:]
                with torch.no_grad():
                    logits = trainer.model.base_model.model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
                total += float(torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum"))
                n += int((labels != -100).sum())
            self.losses.append(total / n)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.measure()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.measure()

    settings = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.02, "max_steps": 1}
    trainer = without_dropout(valued(tmp_path, n=16, callbacks=[around := Around()], **settings))
    trainer.train()
    columns = values_of(tmp_path, 0)
    expected = (columns["rate"] / columns["step_tokens"] * columns["a arithmetic"]).sum()
    assert around.losses[0] - around.losses[1] == pytest.approx(expected, rel=0.03)
    assert expected > 1e-4


def test_every_stage_leaves_its_visits_and_says_so(tmp_path: Path) -> None:
    valued(tmp_path, num_train_epochs=2).train()
    ends = events(tmp_path, "stage_end")
    assert len(ends) == 6
    first = [decision["step"] for decision in events(tmp_path, "decision")]
    assert [end["value"] for end in ends] == [{"measured": step, "visits": 16, "not_valued": 0} for step in first]
    rows = np.concatenate([values_of(tmp_path, stage)["row"] for stage in range(6)])
    assert np.bincount(rows).tolist() == [2] * 48
    rates = np.concatenate([values_of(tmp_path, stage)["rate"] for stage in range(6)])
    assert (np.diff(rates) <= 0).all()  # the trainer's default goes down


def test_rows_whose_weight_was_0_have_no_value(tmp_path: Path) -> None:
    weights = [{"name": "column", "column": "weight"}]
    config = {"selector": "shuffle", "metrics": [], "stages": 1, "budget": 0.5, "value": MUCH, "weights": weights}
    trainer = without_dropout(valued(tmp_path, config=config, train=columns(16), callbacks=[exact := Exact()]))
    exact.trainer = trainer
    trainer.train()
    left = values_of(tmp_path, 0)
    known = np.isfinite(left["a arithmetic"])
    weight = np.array([trainer.train_dataset[int(row)]["weight"] for row in left["row"]])
    assert (known == (weight > 0)).all()
    assert (~known).sum() == 4
    for i in np.flatnonzero(known)[:3]:  # of the first step; whatever their weight, it is divided out
        assert left["b arithmetic"][i] == pytest.approx(exact.values[int(left["row"][i])]["b arithmetic"], rel=5e-3)
    assert events(tmp_path, "stage_end")[0]["value"] == {"measured": 0, "visits": 16, "not_valued": 4}


# -- nothing else changes --------------------------------------------------------------------------------------------


def told_without_values(out: Path) -> list[Json]:
    """The ledger, but for what values add to it and what they cost."""
    lines = []
    for line in ledger_of(out):
        if line["event"] == "value":
            continue
        line = {key: value for key, value in line.items() if key not in ("value", "cost", "recipe", "seconds")}
        if "future" in line:
            line["future"] = {key: value for key, value in line["future"].items() if key != "campus: value"}
        lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (RECIPE, {}),
        (MATCHED, {"num_train_epochs": 2}),
        (LOSSY, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
        (STEERED, {"n": 96, "lr_scheduler_type": "cosine", "callbacks": [Spoils()]}),
    ],
    ids=["scores of texts", "probes choose", "losses choose", "weights go back"],
)
def test_what_is_trained_is_the_same_bit_for_bit(config: Json, settings: Any, tmp_path: Path) -> None:
    runs = []
    for name in ("with", "without"):
        asks = {**config, "value": MUCH} if name == "with" else config
        trainer = valued(tmp_path / name, config={**asks, "scores": "none"}, **settings)
        trainer.train()
        history = [{k: v for k, v in line.items() if "cost" not in k} for line in history_of(trainer)]
        runs.append((told_without_values(tmp_path / name), history, weights_of(trainer)))
    (ledger, history, weights), (plain_ledger, plain_history, plain_weights) = runs
    assert ledger == plain_ledger
    assert history == plain_history
    assert all(torch.equal(weights[name], plain_weights[name]) for name in plain_weights)
    assert names_in(tmp_path / "with")
    gone_back = [line for line in ledger if line.get("done", {}).get("rollback")]
    assert bool(gone_back) == (config is STEERED)
    assert not (tmp_path / "without" / "curriculum" / FOLDER).exists()


# -- kill and resume -------------------------------------------------------------------------------------------------

SHORT: Json = {"config": {**LOSSY, "selector": "relative_perplexity", "value": MUCH}, "n": 20, "num_train_epochs": 2}
STOPPED: Json = {**SHORT, "lora": True, "probes": SUMS}


def with_values(made: Json, out: Path) -> Json:
    stages = sorted((out / "curriculum" / FOLDER).glob("stage-*.parquet"))
    return {**made, "values": {path.name: path.read_bytes() for path in stages}}


@pytest.mark.parametrize("value", [MUCH, {"budget": 10.0, "adam": True}, {"budget": 1.0}], ids=["", "adam", "seldom"])
def test_a_run_that_is_stopped_goes_on_by_the_same_gradients(value: Json, tmp_path: Path) -> None:
    settings = {**STOPPED, "config": {**STOPPED["config"], "value": value}}
    calm = tiny_trainer(tmp_path / "calm", **settings)
    calm.train()
    ours = resumed(tmp_path / "stopped", stops=(1, 4, 6), saves=(1, 4, 6), **settings)  # inside of a stage, and between
    wanted = with_values(outcome(calm), tmp_path / "calm")
    assert len(wanted["values"]) > 2
    assert_same(with_values(ours, tmp_path / "stopped"), wanted)


class Saves(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        control.should_save |= state.global_step in (1, 4)


def test_gradients_that_no_checkpoint_needs_are_removed(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, **STOPPED, callbacks=[Saves()], save_total_limit=1, max_steps=6)
    trainer.train()
    assert [name for name in names_in(tmp_path) if "gradients" in name] == ["gradients-000002.safetensors"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint in the middle of its first stage."""
    out = tmp_path_factory.mktemp("cut")
    valued(out, config={**ASKS, "stages": 2}, n=24, save_steps=2, max_steps=6).train()
    return out


def again(cut: Path, out: Path, **settings: Any) -> Any:
    shutil.copytree(cut, out, dirs_exist_ok=True)
    made = {"config": {**ASKS, "stages": 2}, "n": 24, "save_steps": 2, "max_steps": 6, **settings}
    return valued(out, **made)


def test_damaged_gradients_are_found_before_anything_is_trained(cut: Path, tmp_path: Path) -> None:
    trainer = again(cut, tmp_path)
    (path,) = (tmp_path / "curriculum" / FOLDER).glob("gradients-000000.safetensors")
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ResumeError, match=r"gradients-000000.safetensors is damaged"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    path.write_bytes(kept)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_values_may_begin_with_a_resume_and_end_with_one(cut: Path, tmp_path: Path) -> None:
    future = {"stages": 2, "resume": "changed_future"}
    off = again(cut, tmp_path / "off", config={**RECIPE, **future})
    off.train(resume_from_checkpoint=str(tmp_path / "off" / "checkpoint-2"))
    ends = events(tmp_path / "off", "stage_end")
    assert [end.get("value") for end in ends] == [None, None]
    assert "values.parquet" in names_in(cut)
    assert "values.parquet" not in names_in(tmp_path / "off")  # which was of another end

    plain = tmp_path / "plain"
    valued(plain, config={**RECIPE, "stages": 2}, n=24, save_steps=2, max_steps=6).train()
    on = again(plain, tmp_path / "on", config={**ASKS, **future})
    on.train(resume_from_checkpoint=str(tmp_path / "on" / "checkpoint-2"))
    ends = events(tmp_path / "on", "stage_end")
    assert ends[0]["value"] == {"measured": None, "visits": 0, "not_valued": 0}
    assert ends[1]["value"] == {"measured": 3, "visits": 12, "not_valued": 0}
    assert file_of_stage(0) not in names_in(tmp_path / "on")
    assert file_of_stage(1) in names_in(tmp_path / "on")


def test_a_stage_of_other_probes_is_left_out(cut: Path, tmp_path: Path) -> None:
    config = {**ASKS, "stages": 2, "resume": "changed_future"}
    trainer = again(cut, tmp_path, config=config, probes=[{**row, "domain": "sums"} for row in SUMS])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [end["value"]["visits"] for end in events(tmp_path, "stage_end")] == [0, 12]
    assert {"a sums", "b sums"} < set(values_of(tmp_path, 1))


@pytest.mark.parametrize(
    ("value", "probes"),
    [
        (MUCH, [row for row in task_rows(300, seed=99) if row["domain"] == "arithmetic"]),
        ({**MUCH, "adam": True}, SUMS),
        ({"budget": 0.5}, [*SUMS, *[row for row in task_rows(300, seed=99) if row["domain"] == "arithmetic"]]),
    ],
    ids=["other rows of the domain", "another unit", "more of them"],
)
def test_what_a_resume_measures_otherwise_is_not_added_to_what_was(
    value: Json, probes: Any, cut: Path, tmp_path: Path
) -> None:
    config = {**ASKS, "stages": 2, "resume": "changed_future", "value": value}
    trainer = again(cut, tmp_path, config=config, probes=probes)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))  # one stage is over, the next one not
    ends = [end["value"] for end in events(tmp_path, "stage_end")]
    assert [end["visits"] for end in ends] == [12, 0]
    assert events(tmp_path, "value")[0]["rows"] == 12  # all that there is, in one unit
    trainer = again(cut, tmp_path / "early", config={**config, "stages": 3}, probes=probes)
    trainer.train(resume_from_checkpoint=str(tmp_path / "early" / "checkpoint-2"))
    (line,) = events(tmp_path / "early", "value")
    assert line["rows"] == sum(end["value"]["visits"] for end in events(tmp_path / "early", "stage_end")[1:]) > 0


def test_stages_that_were_valued_otherwise_are_left_out_and_said(cut: Path, tmp_path: Path) -> None:
    config = {**ASKS, "stages": 3, "resume": "changed_future", "value": {**MUCH, "adam": True}}
    trainer = again(cut, tmp_path, config=config, max_steps=12)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    visits = [end["value"]["visits"] for end in events(tmp_path, "stage_end")]
    (line,) = events(tmp_path, "value")
    assert visits[0] == 12
    assert line["rows"] <= sum(visits[1:])
    assert line["sentence"].endswith("; 1 stage that was valued before by other probes, or otherwise, left out")


def test_a_run_that_goes_on_in_another_folder_takes_its_values_with_it(cut: Path, tmp_path: Path) -> None:
    trainer = valued(tmp_path, config={**ASKS, "stages": 2}, n=24, save_steps=2, max_steps=6)
    trainer.train(resume_from_checkpoint=str(cut / "checkpoint-4"))
    stages = [file_of_stage(0), file_of_stage(1)]
    assert set(stages) <= set(names_in(tmp_path))
    for name in stages:
        ours, theirs = ((home / "curriculum" / FOLDER / name).read_bytes() for home in (tmp_path, cut))
        assert ours == theirs


def test_a_new_run_puts_the_values_of_the_one_before_aside(tmp_path: Path) -> None:
    for _ in range(2):
        valued(tmp_path, max_steps=4).train()
    folders = sorted(path.name for path in (tmp_path / "curriculum").glob("value*") if path.is_dir())
    assert folders == [FOLDER, f"{FOLDER}.1"]


# -- adam ------------------------------------------------------------------------------------------------------------


def test_as_adam_would_step_the_gradient_is_divided_by_its_moments(tmp_path: Path) -> None:
    class Moments(Exact):
        """With Adam's own divisors, as torch's documentation writes them."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == self.step:
                held = self.trainer.optimizer.optimizer.state
                weights = [weight for weight in self.trainer.model.parameters() if weight.requires_grad]
                corrected = 1 - 0.999**self.step
                self.divisors = [(held[w]["exp_avg_sq"] / corrected).sqrt() + 1e-8 for w in weights]
            super().on_step_begin(args, state, control, **kwargs)

    config = {**ASKS, "value": {**MUCH, "adam": True}}
    trainer = without_dropout(valued(tmp_path, config=config, callbacks=[exact := Moments(step=4)], max_steps=5))
    exact.trainer = trainer
    trainer.train()
    ends = events(tmp_path, "stage_end")
    assert ends[0]["value"] == {"measured": None, "visits": 0, "not_valued": 0}
    assert ends[1]["value"] == {"measured": 4, "visits": 4, "not_valued": 0}
    left = values_of(tmp_path, 1)
    for i, row in enumerate(left["row"].tolist()):
        assert left["a arithmetic"][i] == pytest.approx(exact.values[row]["a arithmetic"], rel=2e-3)


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_gradients_are_measured_as_often_as_their_own_account_pays(tmp_path: Path) -> None:
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    for out, budget in ((often, 10.0), (seldom, 1.6)):
        trainer = valued(out, config={**ASKS, "value": {"budget": budget}})
        trainer.train()
    probes = run_of(trainer).situation.probing.probes.rows.tokens.sum()
    trained = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    assert [end["value"]["measured"] for end in events(often, "stage_end")] == [0, 4, 8]
    assert [end["value"]["measured"] for end in events(seldom, "stage_end")] == [0, 0, 8]
    for out, times in ((often, 3), (seldom, 2)):
        end = events(out, "end")[0]
        assert end["cost"][VALUE] == pytest.approx(times * probes / trained, rel=0.01)
        assert end["seconds"][VALUE] > 0
    assert not [warning for line in events(often, "warnings") for warning in line["warnings"] if "value" in warning]


def test_an_account_that_pays_for_none_says_so_and_its_advice_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = valued(tmp_path / "no", config={**ASKS, "value": True})
    trainer.train()
    said = capsys.readouterr().out
    assert "`value: budget` is too small: the gradients of 30 probe rows of each domain cost " in said
    advised = float(said.split("Write value: {budget: ")[1].split("}")[0])
    assert [end["value"]["measured"] for end in events(tmp_path / "no", "stage_end")] == [0, 0, 0]
    valued(tmp_path / "yes", config={**ASKS, "value": {"budget": advised}}).train()
    assert "too small" not in capsys.readouterr().out.replace("the budget is too small", "")


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_domain_of_few_probes_is_refused_by_name(tmp_path: Path) -> None:
    few = [*SUMS, *[row for row in PROBES if row["domain"] == "text"][:29]]
    with pytest.raises(DataError, match=r"`value` must have at least 30 probe rows of each domain, .* 29 of 'text'\."):
        valued(tmp_path, probes=few).train()
    assert not (tmp_path / "curriculum" / "ledger.jsonl").exists() or not read_ledger(
        tmp_path / "curriculum" / "ledger.jsonl"
    )


def test_a_probe_domain_cannot_have_the_name_of_all_of_them(tmp_path: Path) -> None:
    text = [row for row in PROBES if row["domain"] == "text"]
    named = [{**row, "domain": "all"} for row in SUMS]
    with pytest.raises(DataError, match=r"`value` must have no probe domain called 'all' beside others, .* text\."):
        valued(tmp_path, probes=[*named, *text]).train()
    valued(tmp_path / "alone", n=4, probes=named).train()  # as probes are called that name no domain
    columns, about = read_columns(tmp_path / "alone" / "curriculum" / FOLDER / "values.parquet")
    assert (columns["value all"] == columns["value"]).all()
    assert set(about["split_half"]) == {"all"}


def test_without_probes_nothing_can_be_valued(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"`value` must have probes, .* Give probes: \{path"):
        valued(tmp_path, probes=None).train()


def test_a_resume_under_other_values_is_refused_unless_it_is_meant(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"campus: value"):
        again(cut, tmp_path, config={**RECIPE, "stages": 2}).train(resume_from_checkpoint=True)
