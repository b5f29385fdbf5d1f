"""Which model a folder holds, and how large it is, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModel

from campus_tune.demo.tiny import tiny_model
from campus_tune.model import model_files
from campus_tune.words.errors import RecipeError
from tests.run.other_models import save_foreign, save_reward, save_same

SETTING = "perplexity: model"


def identity(folder: Path) -> str:
    return model_files.model_identity(str(folder), SETTING, trust_remote_code=False)


def size(folder: Path) -> int:
    return model_files.model_size(str(folder), SETTING, trust_remote_code=False)


def test_the_same_files_in_another_folder_are_the_same_model(tmp_path: Path) -> None:
    first, second = save_same(tmp_path / "a"), save_same(tmp_path / "b")
    assert identity(first) == identity(second)
    assert len(identity(first)) == 32


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_other_weights_settings_tokens_or_templates_are_another_model(tmp_path: Path, name: str) -> None:
    folder = save_foreign(tmp_path / "a")
    before = identity(folder)
    path = folder / name
    if name == "model.safetensors":
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif name == "chat_template.jinja":
        path.write_text(path.read_text() + " ")
    else:
        path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    assert identity(folder) != before


def test_files_that_make_no_difference_to_a_model_make_none_here(tmp_path: Path) -> None:
    folder = save_same(tmp_path / "a")
    before = identity(folder)
    (folder / "README.md").write_text("a model card")
    (folder / "runs").mkdir()
    (folder / "runs" / "events.json").write_text("{}")
    assert identity(folder) == before


def test_a_file_that_is_renamed_is_another_model(tmp_path: Path) -> None:
    folder = save_foreign(tmp_path / "a")
    before = identity(folder)
    (folder / "chat_template.jinja").rename(folder / "other_template.jinja")
    assert identity(folder) != before


def test_an_adapter_is_known_by_its_own_files_and_by_those_of_its_base(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base, adapter = save_same(tmp_path / "base"), tmp_path / "adapter"
    model = get_peft_model(tiny_model(seed=5), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(adapter)
    before = identity(adapter)
    assert before.endswith(f" on {identity(base)}")
    save_same(base, seed=6)
    assert identity(adapter) != before
    assert identity(adapter).split(" on ")[0] == before.split(" on ")[0]
    assert size(adapter) == size(base)


def test_a_size_is_the_number_of_parameters_and_no_weights_are_read(tmp_path: Path) -> None:
    model = tiny_model(layers=3)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert size(tmp_path) == sum(p.numel() for p in model.model.parameters())
    reward = save_reward(tmp_path / "reward")
    assert size(reward) == sum(p.numel() for p in AutoModel.from_pretrained(reward).parameters())


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    for ask in (identity, size):
        with pytest.raises(RecipeError, match=r"`perplexity: model`.*nowhere"):
            ask(tmp_path / "nowhere")
