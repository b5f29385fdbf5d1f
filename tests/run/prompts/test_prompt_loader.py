"""The loader of prompts: what each micro batch is handed, and when it hands over nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.pacing import build_pacing
from campus_tune.method.rounds import Rounds
from campus_tune.model.peers import Peers
from campus_tune.run.prompts.loader import PromptLoader, SamplePrompts
from campus_tune.words.errors import TrainerError

N = 20
ROWS: list[dict[str, Any]] = [{"prompt": f"row {row}", "tags": [row]} for row in range(N)]


def rounds(world: int = 1, per: int = 2, iterations: int = 1, takes: int = 1) -> Rounds:
    """Generations of 4 · per · world answers, two to a prompt."""
    return Rounds(
        prompts=2 * per * world,
        group=2,
        micro_rows=4,
        world=world,
        steps_per_generation=per,
        iterations=iterations,
        accumulation=takes,
    )


def loader(cut: Rounds, peers: Peers | None = None, total: int = 100) -> PromptLoader:
    made = PromptLoader(ROWS, cut, rounds_per_epoch=N // cut.global_batch, peers=peers or Peers())
    schedule = Schedule(build_pacing("linear"), stages=2, seed=1)
    made.curriculum = Curriculum(
        schedule, {}, n_rows=N, global_batch=cut.global_batch, total_steps=total, drop_last=True
    )
    made.curriculum.open()
    return made


def numbers(batch: list[dict[str, Any]]) -> list[int]:
    return [row["tags"][0] for row in batch]


def read(made: PromptLoader) -> list[list[int]]:
    """An epoch, driven as the trainer drives it."""
    curriculum, seen = made.curriculum, []
    assert curriculum is not None
    for number, batch in enumerate(made, start=1):
        seen.append(numbers(batch))
        if number % made.rounds.micro_batches == 0:
            curriculum.advance()
            if curriculum.needs_decision:
                curriculum.open()
    return seen


@pytest.mark.parametrize("settings", [{}, {"iterations": 2}, {"per": 1, "takes": 2}, {"per": 4, "takes": 2}])
def test_an_epoch_is_whole_rounds_each_prompt_a_group_and_each_generation_as_often_as_it_lasts(
    settings: dict[str, int],
) -> None:
    cut = rounds(**settings)
    made = loader(cut)
    seen = read(made)
    assert len(seen) == len(made) == N // cut.global_batch * cut.micro_batches
    lasts = cut.micro_per_generation
    generations = seen[::lasts]
    assert seen == [generation for generation in generations for _ in range(lasts)]
    assert all(generation[::2] == generation[1::2] for generation in generations)
    prompts = [row for generation in generations for row in generation[::2]]
    assert len(set(prompts)) == len(prompts)


def test_a_resume_leaves_out_the_micro_batches_that_are_trained() -> None:
    made, whole = loader(rounds(per=4)), read(loader(rounds(per=4)))
    made.steps_inside = lambda: 3
    assert numbers(next(iter(made))) == whole[3]
    made.counts_down = True
    assert len(made) == len(whole) - 3


def test_ranks_share_a_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, shares = rounds(world=2), []
    for rank in range(2):
        peers = Peers()
        monkeypatch.setattr(peers, "rank", rank)
        monkeypatch.setattr(peers, "world", 2)
        shares.append(numbers(next(iter(loader(cut, peers)))))
    planned = loader(cut).planned(0).tolist()
    assert shares[0] + shares[1] == [row for row in planned for _ in range(2)]


def test_every_row_is_read_anew() -> None:
    class Fresh(list):  # type: ignore[type-arg]
        def __getitem__(self, row: Any) -> Any:
            return {**list.__getitem__(self, row)}

    made = loader(rounds(iterations=2))
    made.dataset = Fresh(ROWS)
    batches = iter(made)
    first = next(batches)
    first[0]["prompt"] = "scribbled on"
    assert next(batches)[0]["prompt"] != "scribbled on"
    assert first[1]["prompt"] != "scribbled on"


def test_nothing_is_read_before_it_is_planned_or_decided_or_ahead() -> None:
    made = loader(rounds())
    batches = iter(made)
    for _ in range(made.rounds.micro_batches):
        next(batches)
    with pytest.raises(TrainerError, match="round 0 must be trained before more are asked for"):
        next(batches)
    curriculum = made.curriculum
    assert curriculum is not None
    while not curriculum.needs_decision:
        curriculum.advance()
    with pytest.raises(TrainerError, match="must be decided before its prompts are read"):
        next(iter(made))
    made.curriculum = None
    with pytest.raises(TrainerError, match="must be planned before its loader is read"):
        next(iter(made))
    assert len(made) == N // 4 * 2


def test_a_look_shows_prompts_as_groups_in_the_sequence_of_the_set(capsys: pytest.CaptureFixture[str]) -> None:
    look = SamplePrompts(ROWS, rounds(), peers=Peers())
    batches = [numbers(batch) for batch in look]
    assert len(batches) == len(look) == N // 4
    assert [row for batch in batches for row in batch] == np.repeat(np.arange(N), 2).tolist()
    assert "decided in train()" in capsys.readouterr().out
