"""`check` of a whole recipe with weights: what a run would refuse, and what a person should know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trl
import yaml

from campus_tune.model import compat
from campus_tune.model.prepare import prepare_rows
from campus_tune.preview.check import check
from campus_tune.preview.own_weights import own_weights
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json
from tests.run.tiny_run import tokenizer

THOUGHT = "<think>\nWell.\n</think>\n\n"
CONFIGS: dict[str, Json] = {
    "llama": {},
    "mixtral": {"output_router_logits": True, "num_local_experts": 2, "num_experts_per_tok": 1},
}


def rows(n: int = 96) -> list[Json]:
    made = []
    for i in range(n):
        turns = [
            {"role": "user", "content": f"What is {i}?"},
            {"role": "assistant", "content": "It is so. " * (1 + i % 9)},
        ]
        more = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes.", "weight": i % 3}]
        made.append({"messages": [*turns, *more], "votes": 1 if i else 1000, "said": str(i)})
    return made


def model(folder: Path, kind: str = "llama") -> str:
    """A folder with a tokenizer, a configuration and no weights."""
    tokenizer().save_pretrained(folder / kind)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = {"model_type": kind, "num_key_value_heads": 1, "vocab_size": len(tokenizer()), **sizes, **CONFIGS[kind]}
    (folder / kind / "config.json").write_text(json.dumps(config))
    return str(folder / kind)


def found(folder: Path, weights: Any, *, named: str | None = None, campus: Any = None, **settings: Any) -> list[str]:
    """What `check` says of a recipe with these weights."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    block = {"selector": "shuffle", "stages": 4, "weights": weights, "batching": "plain", **(campus or {})}
    recipe = {"dataset_name": str(folder / "rows.jsonl"), "per_device_train_batch_size": 32, "campus": block}
    recipe |= {"num_train_epochs": 2, "assistant_only_loss": True, **({"model_name_or_path": named} if named else {})}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **settings}))
    return [str(finding) for finding in check(folder / "recipe.yaml")]


def grave(said: list[str]) -> list[str]:
    return [text for text in said if text.startswith(("error", "refused"))]


def test_few_rows_that_carry_the_gradient_are_warned_of_and_a_limit_helps(tmp_path: Path) -> None:
    entry: Json = {"name": "column", "column": "votes"}
    said = found(tmp_path, [entry])
    assert grave(said) == []
    (warning,) = [text for text in said if text.startswith("warning: Planned weights are so unequal that ")]
    assert "3.1% of the rows carry half of the gradient" in warning  # one of the 32 of a step
    assert not any("so unequal" in text for text in found(tmp_path, [{**entry, "limit": 1}]))


def test_a_column_of_text_or_none_at_all_is_an_error_before_the_run(tmp_path: Path) -> None:
    (error,) = grave(found(tmp_path, [{"name": "column", "column": "said"}]))
    assert error.startswith("error: `weights: column: said` must ")
    (error,) = grave(found(tmp_path, [{"name": "column", "column": "vote"}]))
    assert "must be a column of the training set (" in error
    assert "Did you mean 'votes'?" in error


def test_messages_weights_are_read_as_the_run_reads_them(tmp_path: Path) -> None:
    entry: Json = {"name": "column", "of": "message"}
    said = found(tmp_path, [entry], named=model(tmp_path))
    assert grave(said) == []
    (error,) = grave(found(tmp_path, [{**entry, "column": "wait"}], named=str(tmp_path / "llama")))
    assert "wait" in error
    assert any("`weights: weight` of messages is read in the run." in text for text in found(tmp_path, [entry]))


def test_messages_weigh_up_to_their_limit_in_the_template_that_trl_swaps_in(tmp_path: Path) -> None:
    """Thoughts of earlier turns are left out by Qwen's own template, and kept by the one that trl trains with."""
    named, entry = model(tmp_path), {"name": "column", "of": "message", "limit": 1.2}
    own = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
    Path(named, "chat_template.jinja").write_text(own.read_text("utf-8"), "utf-8")
    chats = [
        {"messages": [{**turn, "content": THOUGHT + turn["content"]} for turn in row["messages"]]} for row in rows()
    ]
    prepared = prepare_rows({"model_name_or_path": named, "assistant_only_loss": True}, chats)
    assert prepared is not None
    assert compat.trained_template(prepared.trainer) is not None
    most = []
    for asked in (entry, {**entry, "limit": None}):
        config = CampusConfig.from_mapping({"selector": "shuffle", "weights": [asked]})
        read, said = own_weights(config, prepared.texts, prepared)
        most.append(max(float(weights.max()) for weights in read.values()))
        assert said == []
    assert most[0] <= 1.2 < most[1]


@pytest.mark.parametrize(("kind", "told"), [("mixtral", True), ("llama", False)])
def test_the_loss_of_routers_is_said_to_stay_unweighted(kind: str, told: bool, tmp_path: Path) -> None:
    said = found(tmp_path, ["focal"], named=model(tmp_path, kind))
    assert any("auxiliary loss of the model's routers stays unweighted" in text for text in said) == told
    none = found(tmp_path, None, named=str(tmp_path / kind))
    assert not any("stays unweighted" in text for text in none)


def test_a_row_alone_in_its_forward_cannot_be_a_control(tmp_path: Path) -> None:
    control = {"control": "shuffled_weights"}
    alone: Json = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 32}
    (error,) = grave(found(tmp_path, ["superloss"], campus=control, **alone))
    assert "`per_device_train_batch_size` must be at least 2 with control: shuffled_weights and superloss" in error
    two: Json = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 16}
    assert grave(found(tmp_path, ["superloss"], campus=control, **two)) == []


def test_infobatch_is_told_with_the_epochs_that_keep_its_passes(tmp_path: Path) -> None:
    said = found(tmp_path, ["unbiased"], campus={"thin": {"how": "prune", "until": 0.875}}, num_train_epochs=3)
    assert grave(said) == []
    assert any("num_train_epochs: 2.49 would be about 3 passes" in text for text in said)


def test_weights_that_leave_a_step_nothing_are_an_error_naming_rows(tmp_path: Path) -> None:
    shares: Json = {"domains": {"shares": {"0": 1}, "by": "weights"}, "within": "said"}
    (error,) = grave(found(tmp_path, None, campus=shares))
    assert "`weights` must leave something of every optimizer step, got the weight 0 for all rows of" in error
