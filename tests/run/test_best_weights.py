from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.method.rules import Regression, Rule, Stagnation
from campus_tune.model.moments import TrainedWeights
from campus_tune.model.peers import Peers
from campus_tune.run import best_weights
from campus_tune.run.best_weights import BestWeights
from campus_tune.run.lineage import Lineage
from campus_tune.run.manifest import Manifest, hash_files
from campus_tune.words.errors import ResumeError, StorageError, TrainerError
from campus_tune.words.types import Json

EQUAL = {"math": 0.5, "code": 0.5}


RULES: list[Rule] = [Regression(), Stagnation(then=("rollback", "hand_over"))]


def measured(*losses: float | tuple[float, float]) -> ProbeHistory:
    """A history of measurements with these mean losses of math and code."""
    history = ProbeHistory()
    for i, loss in enumerate(losses):
        math, code = loss if isinstance(loss, tuple) else (loss, loss)
        rows = {
            name: ProbeRows(np.arange(2), np.array([one, one]), np.array([1, 1]), np.array([0, 0]))
            for name, one in (("math", math), ("code", code))
        }
        history = history.taken(rows, stage=i, step=10 * i, progress=0.0, mass=0.0, tokens=0)
    return history


class Trainer:
    """A linear model and an optimizer, with what `BestWeights` asks of a trainer."""

    is_fsdp_enabled = is_deepspeed_enabled = False

    class args:  # noqa: N801  # as the trainer's
        optim = "adamw_torch"

    class accelerator:  # noqa: N801  # as the trainer's
        @staticmethod
        def unwrap_model(model: torch.nn.Module) -> torch.nn.Module:
            return model

    def __init__(self, width: int = 3) -> None:
        torch.manual_seed(0)
        self.model: Any = torch.nn.Linear(width, 2)
        self.optimizer: Any = torch.optim.AdamW(self.model.parameters(), lr=0.1)

    def step(self) -> None:
        self.model(torch.ones(1, self.model.in_features)).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def numbers(self) -> list[Any]:
        held = [value.tolist() for one in self.optimizer.state.values() for value in one.values()]
        return [*(p.tolist() for p in self.model.parameters()), *held]


def made(trainer: Trainer, folder: Path, rules: Sequence[Rule] = RULES) -> BestWeights:
    found: Any = BestWeights.of(trainer, rules, Peers(), folder)  # type: ignore[arg-type]  # a stand-in
    assert isinstance(found, BestWeights)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "run" / "curriculum"


def names(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "best").iterdir())


def files_of(*measurements: int) -> list[str]:
    stems = [f"measurement-{i:05d}" for i in measurements]
    return sorted([*(f"{stem}.safetensors" for stem in stems), *(f"{stem}-optimizer.safetensors" for stem in stems)])


def test_without_a_rule_that_rolls_back_nothing_is_kept(home: Path) -> None:
    trainer: Any = Trainer()
    assert BestWeights.of(trainer, [Stagnation(then=("note", "stop"))], Peers(), home) is None
    assert BestWeights.of(trainer, [], Peers(), home) is None
    assert not home.exists()


def test_a_rollback_gives_back_the_weights_and_moments_of_the_best_measurement(home: Path) -> None:
    trainer = Trainer()
    best = made(trainer, home)
    seen = []
    losses = [3.0, 1.0, 2.0, 1.5]
    for i in range(len(losses)):
        said = best.noted(measured(*losses[: i + 1]), EQUAL)
        assert said == ({"measurement": i, "step": 10 * i, "loss": losses[i]} if i < 2 else None)
        seen.append(trainer.numbers())
        trainer.step()
    assert trainer.numbers() != seen[1]
    assert best.roll_back() == {"measurement": 1, "step": 10, "loss": 1.0}
    assert trainer.numbers() == seen[1]
    assert best.seconds > 0


def test_the_best_is_that_of_all_domains_by_their_shares(home: Path) -> None:
    best = made(Trainer(), home)
    shares = {"math": 0.9, "code": 0.1}
    history = measured((1.0, 3.0), (1.1, 1.0), (0.9, 4.0))
    for n, kept in ((1, 0), (2, 1), (3, None)):  # 1.2, 1.09, 1.21
        said = best.noted(ProbeHistory(history.measurements[:n]), shares)
        assert (said or {}).get("measurement") == kept


def test_of_two_equal_ones_the_earlier_stays_and_what_is_no_number_is_worse(home: Path) -> None:
    best = made(Trainer(), home)
    losses = [float("nan"), 2.0, 2.0, float("nan"), 1.0]
    said = [best.noted(measured(*losses[: n + 1]), EQUAL) for n in range(5)]
    assert [None if one is None else one["measurement"] for one in said] == [0, 1, None, None, 4]


def test_other_probes_begin_anew(home: Path) -> None:
    best = made(Trainer(), home)
    assert best.noted(measured(1.0), EQUAL)
    text = ProbeRows(np.arange(2), np.array([9.0, 9.0]), np.array([1, 1]), np.array([0, 0]))
    other = measured(1.0).taken({"text": text}, stage=1, step=7, progress=0, mass=0, tokens=0)
    assert best.noted(other, {"text": 1.0}) == {"measurement": 1, "step": 7, "loss": 9.0}


def test_files_are_safetensors_with_the_bare_models_names(home: Path) -> None:
    trainer = Trainer()
    best = made(trainer, home)
    trainer.step()
    best.noted(measured(1.0), EQUAL)
    assert names(home) == files_of(0)
    assert best.files() == ["best/measurement-00000.safetensors", "best/measurement-00000-optimizer.safetensors"]
    weights, moments = (safe_open(home / name, "pt") for name in best.files())
    assert sorted(weights.keys()) == ["bias", "weight"]
    assert torch.equal(weights.get_tensor("weight"), trainer.model.weight)
    keys = ("exp_avg", "exp_avg_sq", "step")
    assert sorted(moments.keys()) == [f"{name}/{key}" for name in ("bias", "weight") for key in keys]
    assert moments.get_tensor("bias/step").item() == 1.0


def checkpoint(home: Path, step: int, best: BestWeights, *, sealed: bool = True) -> Path:
    """What the saver leaves of a checkpoint that is saved now."""
    path = home.parent / f"checkpoint-{step}"
    path.mkdir(parents=True)
    needed = best.files()
    files = {"files": {}, "beside": hash_files(home, needed)} if sealed else {}
    Manifest(Lineage.new(), step, **files).write(path)
    return path


def test_files_stay_as_long_as_a_checkpoint_on_the_disk_needs_them(home: Path) -> None:
    best = made(Trainer(), home)
    best.noted(measured(5.0), EQUAL)
    best.noted(measured(5.0, 4.0), EQUAL)
    assert names(home) == files_of(1)  # nobody needs the first
    first = checkpoint(home, 10, best)
    best.noted(measured(5.0, 4.0, 3.0), EQUAL)
    assert names(home) == files_of(1, 2)
    second = checkpoint(home, 20, best)
    best.noted(measured(5.0, 4.0, 3.0, 2.0), EQUAL)
    assert names(home) == files_of(1, 2, 3)
    shutil.rmtree(first)  # save_total_limit
    checkpoint(home, 30, best)
    best.noted(measured(5.0, 4.0, 3.0, 2.0, 1.0), EQUAL)
    assert names(home) == files_of(2, 3, 4)
    (second / "campus_files.json").write_text("{")  # damaged: it does not count
    best.noted(measured(5.0, 4.0, 3.0, 2.0, 1.0, 0.5), EQUAL)
    assert names(home) == files_of(3, 5)


def test_a_checkpoint_that_is_not_sealed_yet_needs_its_own(home: Path) -> None:
    best = made(Trainer(), home)
    best.noted(measured(5.0), EQUAL)
    checkpoint(home, 10, best, sealed=False)
    best.noted(measured(5.0, 4.0), EQUAL)
    assert names(home) == files_of(0, 1)


def test_what_killed_processes_left_half_written_goes_and_what_is_not_ours_stays(home: Path) -> None:
    best = made(Trainer(), home)
    (home / "best").mkdir(parents=True)
    (home / "best" / ".measurement-00003.safetensors.77-abcd.tmp").write_bytes(b"half")
    (home / "best" / "notes.txt").write_text("mine")
    best.noted(measured(5.0), EQUAL)
    assert names(home) == sorted([*files_of(0), "notes.txt"])


def test_a_resumed_run_rolls_back_to_what_was_the_best_at_its_checkpoint(home: Path, tmp_path: Path) -> None:
    trainer = Trainer()
    best = made(trainer, home)
    trainer.step()
    best.noted(measured(3.0), EQUAL)
    then, state = trainer.numbers(), json.loads(json.dumps(best.state(), sort_keys=True))
    checkpoint(home, 10, best)
    trainer.step()
    best.noted(measured(3.0, 2.0), EQUAL)  # and the run is killed

    other = Trainer()
    resumed = made(other, home)
    resumed.load(state, home)
    assert resumed.state() == best.state() | state
    assert resumed.noted(measured(3.0, 3.5), EQUAL) is None
    other.step()
    other.step()
    assert resumed.roll_back()["measurement"] == 0
    assert other.numbers() == then

    moved = tmp_path / "other" / "curriculum"
    shutil.copytree(home, moved)
    elsewhere = made(other, moved)
    elsewhere.load(state, home)
    other.step()
    elsewhere.roll_back()
    assert other.numbers() == then


def test_a_state_before_the_first_measurement_is_empty(home: Path) -> None:
    best = made(Trainer(), home)
    assert best.state() == {}
    assert best.files() == []
    best.load({}, home)
    assert best.noted(measured(1.0), EQUAL)


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
def test_files_that_are_not_as_they_were_refuse_a_resume_and_a_rollback(home: Path, harm: str) -> None:
    best = made(Trainer(), home)
    best.noted(measured(3.0), EQUAL)
    state, path = best.state(), home / best.files()[1]
    data = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(data[:-1] + (bytes([data[-1] ^ 1]) if harm == "changed" else b""))
    with pytest.raises(ResumeError, match="best` must hold the weights that this checkpoint would roll back to, got "):
        made(Trainer(), home).load(state, home)
    with pytest.raises(StorageError, match=r"optimizer\.safetensors` must hold the weights that were kept there, got "):
        best.roll_back()
    path.write_bytes(data)  # put back from a copy, as the advice says
    made(Trainer(), home).load(state, home)
    best.roll_back()


def test_a_full_disk_is_refused_by_name_and_number(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> Any:
        assert Path(path).exists()
        return shutil._ntuple_diskusage(10**9, 10**9 - free, free)

    monkeypatch.setattr(best_weights.shutil, "disk_usage", usage)
    trainer: Any = Trainer(1000)
    needed = 2 * 3 * 4 * (2 * 1000 + 2)  # twice, weights and two moments, bytes, numbers
    free = needed - 1
    with pytest.raises(TrainerError, match=r"room for 2 times the weights .* keeps, 4.8e-05 GB, got 4.8e-05 GB free\."):
        BestWeights.of(trainer, RULES, Peers(), home)
    free = needed
    assert made(trainer, home)


def test_full_fine_tuning_of_a_large_model_is_refused_and_a_lora_is_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_weights, "MOST_BYTES", 95)  # 8 weights, 96 bytes with their moments
    trainer: Any = Trainer()
    with pytest.raises(TrainerError, match=r"where all weights are trained, got about 0\.0 GB\. Train a LoRA"):
        BestWeights.of(trainer, RULES, Peers(), home)
    trainer.model.peft_config = {}
    assert made(trainer, home)


def test_a_disk_that_fills_later_leaves_what_was_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer()
    best = made(trainer, home)
    best.noted(measured(3.0), EQUAL)
    then, state = trainer.numbers(), best.state()
    trainer.step()

    def full(*_: object) -> None:
        raise StorageError("`x` must be writable, got No space left on device.")

    monkeypatch.setattr("campus_tune.run.best_files.atomic_write", full)
    with pytest.raises(StorageError, match="No space left"):
        best.noted(measured(3.0, 2.0), EQUAL)
    assert best.state() == state
    best.roll_back()
    assert trainer.numbers() == then


def parts(trainer: Any, change: Mapping[str, Any]) -> Any:
    for name, value in change.items():
        setattr(trainer, name, value)
    return trainer


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"is_fsdp_enabled": True}, "got FSDP, which cuts"),
        ({"is_deepspeed_enabled": True}, "got DeepSpeed, which cuts"),
        ({"optimizer": object()}, "steps behind the backward pass, got object"),
    ],
)
def test_weights_that_are_cut_among_processes_are_refused_by_name(home: Path, change: Json, named: str) -> None:
    trainer = parts(Trainer(), change)
    with pytest.raises(TrainerError, match=named):
        BestWeights.of(trainer, RULES, Peers(), home)
    assert BestWeights.of(trainer, [Stagnation(then=("hand_over",))], Peers(), home) is None  # the advice


def test_weights_of_another_kind_of_tensor_are_refused() -> None:
    class Cut(torch.Tensor):
        pass

    trainer: Any = Trainer()
    trainer.model.weight = torch.nn.Parameter(torch.zeros(2, 3).as_subclass(Cut))
    with pytest.raises(TrainerError, match="whole weights and moments in each process, got Cut"):
        TrainedWeights(trainer)


def test_a_model_of_which_nothing_is_trained_is_refused(home: Path) -> None:
    trainer: Any = Trainer()
    trainer.optimizer = torch.optim.SGD([{"params": []}], lr=0.1)
    with pytest.raises(TrainerError, match="must have weights that are trained, got none"):
        BestWeights.of(trainer, RULES, Peers(), home)
