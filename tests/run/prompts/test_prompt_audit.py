from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from campus_tune.run.prompts.audit import PromptAudit, keys_of, not_compared, row_keys
from campus_tune.words.errors import AuditError, ResumeError
from tests.run.prompts.planned_loader import PlannedRun
from tests.run.prompts.tiny_prompts import GROUP, prompts, reward_trainer

SETTINGS: list[dict[str, int]] = [
    {},
    {"steps_per_generation": 4},
    {"num_iterations": 2},
    {"steps_per_generation": 1, "gradient_accumulation_steps": 2},
]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A GRPOTrainer whose generation lasts two optimizer steps of two micro batches: 8 prompts, 4 answers each."""
    return reward_trainer(tmp_path_factory.mktemp("audit"), config=False, steps_per_generation=4)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("given", SETTINGS, ids=repr)
def test_what_is_planned_passes(tmp_path: Path, kind: str, given: dict[str, int]) -> None:
    run = PlannedRun(reward_trainer(tmp_path, kind, config=False, **given), 4).train()
    assert run.audit.generations == [4, 4]
    assert run.audit.checked == run.audit.passed == run.trainer.args.max_steps
    assert run.audit.sees_forwards


@pytest.mark.parametrize("given", [{"mask_truncated_completions": True}, {"top_entropy_quantile": 0.5}])
def test_masked_tokens_and_answers_pass(tmp_path: Path, given: dict[str, Any]) -> None:
    run = PlannedRun(reward_trainer(tmp_path, config=False, **given), 2).train()
    assert run.audit.checked == run.audit.passed == 2


def test_chats_an_adapter_and_a_reference_pass(tmp_path: Path) -> None:
    chats = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in prompts(16)]
    run = PlannedRun(reward_trainer(tmp_path, config=False, train=chats, lora=True, beta=0.1), 2).train()
    assert run.audit.checked == run.audit.passed == 2


def test_nothing_of_the_trainer_is_changed_when_it_ends(trainer: Any) -> None:
    before, hooks = dict(vars(trainer)), len(trainer.model._forward_hooks)
    run = PlannedRun(trainer)
    assert len(trainer.model._forward_hooks) == hooks + 1
    run.audit.close()
    run.watch.close()
    assert vars(trainer).keys() == before.keys()
    assert len(trainer.model._forward_hooks) == hooks


def refused(run: PlannedRun, said: str, *, step: int = 0) -> None:
    """The run stops with these words, and so many optimizer steps made."""
    with pytest.raises(AuditError, match=said):
        run.train()
    assert run.trainer.state.global_step == step
    assert run.audit.generations[1] < run.audit.generations[0] or run.audit.passed < run.audit.checked


# -- where a generation is made ----------------------------------------------------------------------------------------


def in_second(change: Callable[[list[Any]], list[Any]]) -> Callable[[int, list[Any]], list[Any]]:
    """What becomes of the rows that the second generation is made of."""
    return lambda micro, batch: change(batch) if micro == 4 else batch


def test_a_reordered_generation_stops_the_run_before_it_is_answered(trainer: Any) -> None:
    answered: list[int] = []
    own = trainer._generate
    trainer._generate = lambda prompts: answered.append(len(prompts)) or own(prompts)
    try:
        refused(
            PlannedRun(trainer, change=in_second(lambda batch: batch[GROUP:] + batch[:GROUP])),
            "prompt audit of generation 1: the rows 8, 8, 8, 8, 7, .* were planned in this sequence, got another. Rem",
            step=2,
        )
    finally:
        del trainer._generate
    assert answered == [32]


def test_a_swapped_prompt_is_named_with_the_row_it_is(trainer: Any) -> None:
    other = trainer.train_dataset[20]
    refused(
        PlannedRun(trainer, change=in_second(lambda batch: [other] * GROUP + batch[GROUP:])),
        "generation 1: row 8 was planned but row 20 came in its place",
        step=2,
    )


def test_one_answer_of_a_group_to_another_prompt_is_enough(trainer: Any) -> None:
    other = trainer.train_dataset[7]
    run = PlannedRun(trainer, change=in_second(lambda batch: [*batch[:3], other, *batch[4:]]))
    refused(run, "row 8 was planned but row 7 came", step=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cut": 511}, "row 8 was planned but its `cut` came otherwise: 511 in place of 0"),
        ({"prompt": "stranger"}, "row 8 was planned but its `prompt` came otherwise: 'stranger' in place of 'task 8"),
        ({"cut": None, "domain": "b"}, "its `cut`, `domain` came otherwise: None in place of 0"),
    ],
)
def test_a_changed_column_is_named(trainer: Any, change: dict[str, Any], said: str) -> None:
    run = PlannedRun(trainer, change=in_second(lambda batch: [{**batch[0], **change}, *batch[1:]]))
    refused(run, said, step=2)


def test_a_column_that_is_left_out_is_named(trainer: Any) -> None:
    without = in_second(lambda batch: [{k: v for k, v in row.items() if k != "level"} for row in batch])
    refused(PlannedRun(trainer, change=without), "its `level` came otherwise: None in place of 8", step=2)


def test_a_column_that_somebody_adds_is_theirs(trainer: Any) -> None:
    run = PlannedRun(trainer, change=lambda micro, batch: [{**row, "seen": micro} for row in batch]).train()
    assert run.audit.generations == [2, 2]


def test_a_shorter_generation_is_refused(trainer: Any) -> None:
    run = PlannedRun(trainer, change=in_second(lambda batch: batch[:16]))
    refused(run, "32 answers were planned on this rank, got 16", step=2)


def test_another_loader_is_refused(trainer: Any) -> None:
    run = PlannedRun(trainer)
    run.rows = run.rows[:, ::-1]
    planned, run.audit._planned = run.rows.copy(), lambda generation: planned[generation]
    run.rows = run.rows + 1
    refused(run, "generation 0: row 9 was planned but row 10 came in its place")


def test_a_data_set_whose_rows_change_is_refused(tmp_path: Path) -> None:
    drawn = iter(range(10**6))

    def draw(rows: Mapping[str, Any]) -> Any:
        return {**rows, "prompt": [f"{text} {next(drawn)}" for text in rows["prompt"]]}

    data = Dataset.from_list(prompts(16)).with_transform(draw)
    run = PlannedRun(reward_trainer(tmp_path, config=False, train=data))
    refused(run, "row 8 was planned but its `prompt` came otherwise")
    trainer = reward_trainer(tmp_path, config=False, train=16)
    run = PlannedRun(trainer)
    run.audit._keys = run.audit._keys + np.uint64(1)
    refused(run, "row 8 is no longer what it was when the run was planned")


def test_prompts_that_are_tokenised_otherwise_are_refused(trainer: Any) -> None:
    own = trainer._generate
    trainer._generate = lambda prompts: own([f"{prompt} please" if "8" in prompt else prompt for prompt in prompts])
    try:
        said = "row 8 was planned but the model was given other tokens than those of its prompt: 'task 8 of .* please'"
        refused(PlannedRun(trainer, 1), said)
    finally:
        del trainer._generate


def test_a_class_that_makes_its_own_prompts_is_trusted_with_them(tmp_path: Path) -> None:
    from trl import GRPOTrainer

    class Polite(GRPOTrainer):
        def _generate(self, prompts: list[str]) -> Any:
            return super()._generate([f"{prompt} please" for prompt in prompts])

    polite = reward_trainer(tmp_path, config=False, trainer_class=Polite)
    run = PlannedRun(polite).train()
    assert run.audit.generations == [2, 2]
    assert run.audit.checked == run.audit.passed == 2
    (said,) = not_compared(polite)
    assert "what is trained with what it gives back; what it has asked the model is not." in said


def test_where_a_rollout_answers_it_says_what_is_not_compared(trainer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(trainer, "rollout_func", lambda *_: {})
    assert len(not_compared(trainer)) == 1


# -- where it is trained -----------------------------------------------------------------------------------------------


@pytest.fixture
def at_step(trainer: Any) -> Iterator[Callable[[int, Callable[[], None]], PlannedRun]]:
    """A run of two generations in which something happens as a step begins."""

    def make(when: int, act: Callable[[], None]) -> PlannedRun:
        return PlannedRun(trainer, before_step=lambda step: act() if step == when else None)

    yield make
    for name in ("compute_loss", "_prepare_inputs", "training_step"):
        vars(trainer).pop(name, None)


def test_an_edited_prompt_in_the_buffer_stops_the_run(trainer: Any, at_step: Any) -> None:
    def edit() -> None:
        trainer._buffered_inputs[3]["prompt_ids"][0, -3:] = 77

    refused(
        at_step(1, edit),
        r"step 2: the rows 9, .* 16 were planned but the model was trained on another prompt: ",
        step=2,
    )


def test_an_edited_answer_in_the_buffer_stops_the_run(trainer: Any, at_step: Any) -> None:
    def edit() -> None:
        trainer._buffered_inputs[2]["completion_ids"][1] = 77

    said = r"prompt audit of step 2: the model was trained on another answer to row \d+ than it gave: 'task .* Remove"
    refused(at_step(1, edit), said, step=2)


def test_answers_that_change_places_between_micro_batches_stop_the_run(trainer: Any, at_step: Any) -> None:
    def swap() -> None:
        parts = trainer._buffered_inputs
        parts[2], parts[3] = parts[3], parts[2]

    said = r"step 2: the model was trained on an answer to row \d+ that belongs into another micro batch"
    refused(at_step(1, swap), said, step=2)


def test_a_generation_that_is_exchanged_before_it_is_trained_stops_the_run(trainer: Any, at_step: Any) -> None:
    own = trainer._prepare_inputs

    def prepare(batch: Any) -> Any:
        inputs = own(batch)
        inputs["completion_ids"][0, 0] = 77
        return inputs

    trainer._prepare_inputs = prepare
    said = r"the model's answers to the rows \d+ are not among those that the trainer has kept"
    with pytest.raises(AuditError, match=said):
        at_step(9, lambda: None).train()
    assert trainer.state.global_step == 0


def test_answers_that_are_trained_again_or_not_at_all_stop_the_run(trainer: Any, at_step: Any) -> None:
    backward, seen = trainer.accelerator.backward, {}
    look = trainer.model.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    names = ("input_ids", "attention_mask", "labels", "fused_lm_head")

    def twice(loss: torch.Tensor, **given: Any) -> None:
        again = trainer.model(**{name: seen[name] for name in names if name in seen})
        backward(loss + next(value for value in again.values() if value is not None).sum(), **given)

    trainer.accelerator.backward = twice
    try:
        said = r"micro batch 0 must be trained once, but .* rows [\d, ]+ were trained again"
        refused(at_step(9, lambda: None), said, step=1)
    finally:
        look.remove()
        trainer.accelerator.backward = backward

    def never(model: Any, inputs: Any, n: Any) -> Any:
        del inputs, n
        trainer._prepare_inputs([trainer.train_dataset[int(row)] for row in np.repeat(np.arange(16, 8, -1), GROUP)])
        trainer._step += 1
        return torch.zeros(()) * next(model.parameters()).sum()

    trainer.training_step = never
    refused(
        at_step(9, lambda: None), "answers were planned for micro batch 0 but the model was trained on nothing", step=1
    )


def test_a_part_of_the_answers_is_not_enough(trainer: Any, at_step: Any) -> None:
    own = trainer.compute_loss

    def half(model: Any, inputs: Any, **given: Any) -> Any:
        return own(model, {k: v[:4] if torch.is_tensor(v) and v.dim() else v for k, v in inputs.items()}, **given)

    trainer.compute_loss = half
    refused(at_step(9, lambda: None), r"but answers to the rows [\d, ]+ were left out", step=1)


def test_a_loss_of_the_users_own_may_ask_twice(tmp_path: Path) -> None:
    from trl import GRPOTrainer

    class Twice(GRPOTrainer):
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            return (super()._compute_loss(model, inputs) + super()._compute_loss(model, inputs)) / 2

    run = PlannedRun(reward_trainer(tmp_path, config=False, trainer_class=Twice)).train()
    assert run.audit.checked == run.audit.passed == 2


def test_a_question_that_trains_nothing_is_nobodys_business(trainer: Any, at_step: Any) -> None:
    def ask() -> None:
        trainer.model.train()
        trainer.model(input_ids=torch.arange(6)[None], attention_mask=torch.ones(1, 6, dtype=torch.long))

    run = at_step(1, ask).train()
    assert run.audit.checked == run.audit.passed == 4


def test_what_is_asked_while_evaluating_is_no_generation(trainer: Any) -> None:
    run = PlannedRun(trainer)
    trainer.model.eval()
    trainer._generate_and_score_completions([dict(trainer.train_dataset[0])] * GROUP)
    run.audit.close()
    run.watch.close()
    assert run.audit.generations == [0, 0]
    assert run.heard == []


def test_where_forwards_are_hidden_it_says_so_and_compares_what_is_answered(trainer: Any) -> None:
    assert not_compared(trainer) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "use_liger_kernel", True, raising=False)  # as TRL 1.0 has it
        (said,) = not_compared(trainer)
        run = PlannedRun(trainer)
    assert "are answered are compared with the plan, what is trained is not. Set use_liger_kernel: false" in said
    run.audit._hook.remove()
    run.train()
    assert (run.audit.checked, run.audit.passed, run.audit.generations) == (0, 0, [2, 2])


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def inside(trainer: Any) -> Iterator[tuple[PlannedRun, dict[str, Any]]]:
    """A run that stands inside of its first generation, and what its audit says for a checkpoint there."""
    run = PlannedRun(trainer)
    run.before_step = lambda step: setattr(run.trainer.args, "max_steps", 1) if step == 0 else None
    trainer.args.max_steps = 1
    run.train()
    assert trainer._step == 2
    state = json.loads(json.dumps(run.audit.state()))
    run.audit = PromptAudit(trainer, trainer.train_dataset, row_keys(trainer.train_dataset), run.planned)
    yield run, state
    run.audit.close()


def test_a_resumed_audit_goes_on_inside_of_a_generation(inside: Any) -> None:
    run, state = inside
    assert (state["checked"], state["passed"], state["generations"]) == (1, 1, [1, 1])
    assert state["generation"]["rows"] == np.repeat(run.rows[0], GROUP).tolist()
    run.audit.load(state)
    assert run.audit.state() == state


def test_at_a_border_nothing_of_the_generation_is_kept(trainer: Any) -> None:
    run = PlannedRun(trainer).train()
    assert run.audit.state() == {"checked": 4, "passed": 4, "generations": [2, 2], "generation": None}
    run.audit.load(run.audit.state())
    assert run.audit.checked == 4


def test_kept_answers_that_are_others_are_refused(inside: Any) -> None:
    run, state = inside
    run.trainer._buffered_inputs[3]["completion_ids"][0] = 5
    with pytest.raises(
        ResumeError, match=r"answers to the rows \d+ are not among those .* resume from another checkpoint"
    ):
        run.audit.load(state)


def test_kept_answers_to_other_prompts_than_planned_are_refused(inside: Any) -> None:
    run, state = inside
    run.rows = run.rows[::-1]
    with pytest.raises(
        ResumeError, match=r"generation 0 must be of the planned rows 8, 8, .*, got 16, 16, .* Resume from"
    ):
        run.audit.load(state)


def test_a_step_that_was_broken_off_is_forgotten(inside: Any) -> None:
    run, _ = inside
    run.trainer._step += 2
    run.audit.begin()
    run.audit.settle(2)
    assert run.audit.checked == 0


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_go_by_tokens_and_not_by_padding() -> None:
    ids = np.array([[0, 5, 6, 7, 8, 0], [5, 6, 9, 7, 8, 9], [5, 6, 9, 7, 8, 9]])
    mask = np.array([[0, 1, 1, 1, 1, 0], [1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0]])
    asked, answered = keys_of(ids, mask, 3)
    assert asked[0] == asked[1] != asked[2]
    assert answered[0] == answered[1] != answered[2]
    assert asked[0] != answered[0]


def test_row_keys_go_by_every_column_whatever_their_sequence() -> None:
    rows = [{"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, {"a": 1, "b": [2, 1]}, {"a": 1}, {"a": 1, "b": None}]
    keys = row_keys(rows)
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 4
    assert keys.dtype == np.uint64
