"""What pass rates of prompts never tried are predicted from: all that is known of every prompt and costs nothing.

Its length, vocabulary and compression, the numbers and the few-valued texts of its columns, the length of its other
texts (a long solution is a hard problem's), and every score that the recipe asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from campus_tune.data.prompts import TellingColumns
from campus_tune.metrics.compression import text_compression
from campus_tune.metrics.diversity import text_mtld
from campus_tune.metrics.parallel import map_texts
from campus_tune.scores.pass_prediction import PromptFeatures
from campus_tune.words.types import FloatArray, RowTexts

OF_TEXTS = {"mtld of prompt": text_mtld, "compression of prompt": text_compression}


def prompt_features(
    texts: RowTexts, scores: Mapping[str, FloatArray], *, num_proc: int = 1, progress: bool = True
) -> PromptFeatures:
    """The features of every prompt.

    Args:
        texts: of the prompts.
        scores: of the recipe's metrics by label, each of shape (N,).
        num_proc: processes that read texts, ≥ 1.
        progress: show a bar where there is enough work for one.
    """
    columns = TellingColumns.of(texts.columns)
    values = {**columns.values, "length of prompt": texts.prompt_tokens.astype(np.float64)}
    for name, function in OF_TEXTS.items():
        values[name] = map_texts(function, texts.response_text, num_proc=num_proc, progress=progress, what=name)
    scored = {f"metric {label}": each for label, each in scores.items()}
    return PromptFeatures.of(values | scored, columns.groups, len(texts))
