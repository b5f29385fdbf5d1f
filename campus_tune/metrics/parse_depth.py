"""Depth of the response's syntax: how many words stand between the main verb and the word that hangs furthest below."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from campus_tune.metrics.base import METRICS, CpuMetric
from campus_tune.metrics.extras import missing_extra
from campus_tune.metrics.parallel import map_batches
from campus_tune.words.errors import MetricError
from campus_tune.words.leaves import Wording
from campus_tune.words.types import FloatArray, RowTexts

if TYPE_CHECKING:
    from spacy.tokens import Doc

NO_WORDS = -1.0  # depth of a tree without a node, below the 0 of a single word
BATCH = 64  # texts that the parser reads at a time: twice as fast as one by one
LONGEST = 100_000  # characters read of a text; the parser takes memory in proportion
# What stock pipelines do besides parsing; the parser needs none of it.
_NOT_NEEDED = (
    "tagger", "morphologizer", "attribute_ruler", "lemmatizer", "trainable_lemmatizer", "ner", "senter", "textcat",
    "textcat_multilabel", "entity_linker", "span_ruler", "spancat",
)  # fmt: skip


def tree_depths(doc: Doc) -> list[int]:
    """For each dependency tree of a parsed spaCy `Doc`: the edges from its root to its deepest word.

    White space is a token in spaCy and hangs on the word before; it is no word and not counted.
    """
    heads = [token.head.i for token in doc]
    deepest: dict[int, int] = {}
    for token in doc:
        if token.is_space:
            continue
        edges, i = 0, token.i
        while heads[i] != i:
            i, edges = heads[i], edges + 1
        deepest[i] = max(deepest.get(i, 0), edges)
    return list(deepest.values())


def batch_depths(texts: Sequence[str], *, model: str, reduce: Literal["mean", "max"]) -> list[float]:
    """Depth of each text; `NO_WORDS` for one without words."""
    pipeline = load_pipeline(model)
    # spaCy wants valid UTF-8: half a surrogate pair becomes a question mark
    readable = [text[:LONGEST].encode("utf-8", "replace").decode("utf-8") for text in texts]
    with pipeline.memory_zone():  # else spaCy keeps every new word that it meets
        depths = [tree_depths(doc) for doc in pipeline.pipe(readable, batch_size=len(readable))]
    return [float((np.mean if reduce == "mean" else np.max)(each)) if each else NO_WORDS for each in depths]


@lru_cache(maxsize=2)
def load_pipeline(model: str) -> Any:
    """A spaCy pipeline with a parser, loaded once: forked processes find it in the memory that they inherit.

    Raises:
        MetricError: spaCy or the pipeline is not installed, cannot be read, or does not parse.
    """
    problem = missing_extra("parse_depth", "spacy", "parse") or _not_there(model)
    if problem:
        raise MetricError(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its libraries about each other
        import spacy
    try:
        pipeline = spacy.load(model, exclude=_NOT_NEEDED)
    except (OSError, ValueError, ImportError) as error:
        raise MetricError(
            f"`parse_depth: model` must be a spaCy pipeline that can be loaded, got {model!r}: {error} "
            f"{_how_to_install(model)}"
        ) from error
    if not any("parser" in pipeline.get_pipe_meta(name).factory for name in pipeline.pipe_names):
        raise MetricError(
            f"`parse_depth: model` must be a spaCy pipeline with a dependency parser, got {model!r} with "
            f"{', '.join(pipeline.pipe_names) or 'no component'}. {_how_to_install('en_core_web_sm')} Then write "
            "model: en_core_web_sm."
        )
    return pipeline


def _not_there(model: str) -> str | None:
    """The problem that no package and no folder is called `model`, found without importing spaCy; or None."""
    if Path(model).exists() or (model.isidentifier() and find_spec(model) is not None):
        return None
    return (
        f"`parse_depth: model` must be an installed spaCy pipeline or the folder of one, got {model!r}, which is "
        f"neither. {_how_to_install(model)}"
    )


def _how_to_install(model: str) -> str:
    if model.isidentifier():
        return f"Type: python -m spacy download {model}"
    return "Correct the path, or name a pipeline such as en_core_web_sm."


@METRICS.register("parse_depth")
@dataclass(frozen=True, kw_only=True)
class ParseDepth(CpuMetric):
    """Depth of the dependency trees of the response's sentences: deeper nested = harder.

    The depth of a tree is the number of edges from its root to its deepest word: 0 for "Yes", 2 for "The cat sat"
    (sat ← cat ← The). score = mean over the response's sentences, or their maximum.

    When it helps: prose whose difficulty is syntax and not words; two answers of like length and vocabulary can be
    three clauses in a row or three inside each other. Where sentences are short or there are none (code, numbers,
    lists) the trees are a parser's guesswork. Depth grows with sentence length: look at its correlation with `length`.

    Cost: some 300 answers of 170 bytes a second on one core with a pipeline of en_core_web_sm's size, the dearest
    metric without a language model. `pip install "campus-tune[parse]"` brings spaCy, and `python -m spacy download
    en_core_web_sm` an English pipeline. Of a text, the first 100 000 characters are read.

    Texts without words score −1, below the 0 of single words; `describe` counts them.

    Args:
        reduce: `mean` over the sentences, or `max`.
        model: a spaCy pipeline with a parser: an installed one by name, or a folder.

    Raises:
        ValueError: `reduce` is something else, `model` is no text.

    Reference:
        Yngve 1960, "A Model and an Hypothesis for Language Structure", Proc. American Philosophical Society 104, for
        depth as difficulty; dependency trees as parsed by spaCy, Honnibal et al. 2020.

    Differs from the paper: Yngve counts the left branches of a phrase structure, what a speaker must keep in mind; we
    count the edges of dependencies to either side.
    """

    cached: ClassVar[bool] = True

    reduce: Annotated[Literal["mean", "max"], Wording("mean or max")] = "mean"
    model: str = "en_core_web_sm"

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"`model` must name a spaCy pipeline, got {self.model!r}. Write en_core_web_sm.")
        super().__post_init__()

    def missing(self) -> str | None:
        """What is not installed: spaCy, or the pipeline."""
        return missing_extra("parse_depth", "spacy", "parse") or _not_there(self.model)

    def made_with(self) -> dict[str, str]:
        """The versions of spaCy and of the pipeline."""
        meta = load_pipeline(self.model).meta
        return {"spacy": version("spacy"), "pipeline": f"{meta.get('name')} {meta.get('version')}"}

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """Depth per response, shape (N,); −1.0 where there are no words.

        Raises:
            MetricError: spaCy or the pipeline is not installed, cannot be read, or does not parse.
        """
        load_pipeline(self.model)  # said before the first text, and once for all processes
        return map_batches(
            partial(batch_depths, model=self.model, reduce=self.reduce),
            texts.response_text,
            size=BATCH,
            num_proc=num_proc,
            progress=progress,
            what="parse_depth",
        )

    def describe(self, texts: RowTexts, scores: FloatArray) -> dict[str, int | float]:
        """How many responses had no words."""
        del texts
        return {"texts_without_words": int(np.count_nonzero(scores == NO_WORDS))}
