from __future__ import annotations

import pytest

from campus_tune.recipe.batching import foreseen
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            "auto` will be step: the model's attention (sdpa) takes rows padded; flash attention would take them flat",
        ),
        ({"attn_implementation": "eager"}, "auto` will be step: the model's attention (eager)"),
        ({"attn_implementation": "flash_attention_2"}, "auto` will be flat with flash_attention_2, unless"),
        ({"attn_implementation": "kernels-community/flash-attn3"}, "will be flat with kernels-community/flash-attn3"),
        ({"padding_free": True}, "auto` will be flat: the trainer's padding_free is on"),
    ],
)
def test_what_auto_will_be_is_read_off_the_trainers_settings(settings: Json, said: str) -> None:
    [finding] = foreseen({**settings, "campus": {}}, "auto")
    assert finding.severity == "info"
    assert said in finding.what


def test_where_the_recipe_says_it_or_names_no_trainer_nothing_is_foreseen() -> None:
    assert foreseen({"campus": {}}, "flat") == foreseen({"metrics": []}, "auto") == []


def test_where_a_recipe_says_nothing_the_run_decides() -> None:
    assert CampusConfig(metrics=["length"]).batching == "auto"
