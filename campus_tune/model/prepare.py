"""The rows of a recipe as its run will train them, without its model: `check` reads what `campus-tune sft` reads.

TRL's own trainer prepares them, with the recipe's settings and the model's own tokenizer, around a stand-in model of a
few hundred parameters. So formats, templates, tools, truncation, labels and dropped rows are not repeated anywhere.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campus_tune.data.conversions import Origin
from campus_tune.data.refusals import silent_contents, why_not
from campus_tune.data.shapes import Shape
from campus_tune.recipe.trl_yaml import OF_COMMANDS
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json, RowTexts

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer

    from campus_tune.model.trained import Trained

HERE: Json = {"use_cpu": True, "bf16": False, "fp16": False, "tf32": None}  # whatever this machine can do
OURS = ("campus", *OF_COMMANDS, "env")  # keys that TRL's parser does not know
QUIET: Json = {"report_to": "none", "eval_strategy": "no", "push_to_hub": False, "hub_model_id": None}


@dataclass(frozen=True)
class PreparedRows:
    """The rows of a recipe as they are trained.

    Args:
        trainer: that prepared them; its model is a stand-in.
        texts: what CPU metrics see.
        dropped: rows that preparation has taken out, for nothing of their answers is left.
        trained: the rows as the collator makes them.
    """

    trainer: Trainer
    texts: RowTexts
    dropped: int
    trained: Trained


def prepare_rows(settings: Mapping[str, Any], rows: Any) -> PreparedRows | None:
    """The rows as TRL prepares them; None where the recipe names no model whose tokenizer can be loaded.

    Args:
        settings: of the YAML.
        rows: as they stand in the file, as dictionaries or a `datasets.Dataset`.

    Raises:
        DataError: TRL does not take these rows under these settings, or none of their tokens carry loss.
    """
    tokenizer = _tokenizer(settings)
    if tokenizer is None:
        return None
    from campus_tune.data.as_dataset import as_dataset
    from campus_tune.data.prepared import read_texts
    from campus_tune.model import compat
    from campus_tune.model.trained import as_trained

    given = as_dataset(rows, str(settings.get("dataset_name"))) if isinstance(rows, Sequence) else rows
    with without_chatter(), tempfile.TemporaryDirectory() as folder:
        try:
            trainer = _trainer(settings, tokenizer, given, folder)
            view = compat.loader_view(trainer, trainer.train_dataset)
        except Exception as error:  # of TRL, of a chat template
            shape, origin = Shape.of(settings), Origin.in_recipe(settings)
            told = why_not(given, shape, origin) or silent_contents(given, origin)  # which row it is, and why
            if told is not None:
                raise DataError(told) from error
            said = (str(error).splitlines() or [""])[0]
            columns = ", ".join(given.column_names)
            raise DataError(
                "the training rows must be ones that TRL takes under the settings of the recipe, got "
                f"{type(error).__name__}: {said} Columns are {columns}. `campus-tune sft` would stop at the same: "
                "correct the rows, or the setting that it names."
            ) from error
        dataset = trainer.train_dataset
        trained = as_trained(*view)
        texts = read_texts(dataset, trained.rows(), compat.tokenizer_of(trainer), trained=trained.dataset)
        return PreparedRows(trainer, texts, len(given) - len(dataset), trained)


def _tokenizer(settings: Mapping[str, Any]) -> Any:
    """The model's own, or None."""
    model = settings.get("model_name_or_path")
    if not model:
        return None
    from transformers import AutoProcessor

    named = {"revision": settings.get("model_revision"), "trust_remote_code": bool(settings.get("trust_remote_code"))}
    try:
        processor = AutoProcessor.from_pretrained(model, **named)  # type: ignore[no-untyped-call]  # as TRL does
    except (OSError, ValueError, ImportError, KeyError):
        return None
    return processor if hasattr(processor, "get_vocab") else None  # a processor of images is nothing to look at texts


def _trainer(settings: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, dataset: Dataset, folder: str) -> Any:
    """The recipe's trainer around a stand-in model."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTTrainer

    from campus_tune.recipe.trl_yaml import parse_trl

    asked = {name: value for name, value in {**settings, **HERE, **QUIET}.items() if name not in OURS}
    (_, training, _, _), _ = parse_trl({**asked, "output_dir": folder}, [])
    training.model_init_kwargs = None
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = LlamaForCausalLM(config)
    return SFTTrainer(model, args=training, train_dataset=dataset, processing_class=tokenizer)


@contextmanager
def without_chatter() -> Iterator[None]:
    """What libraries say of their own defaults was said to nobody who asked."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if shown:
            enable_progress_bars()
