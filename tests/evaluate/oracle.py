"""Two language models without weights: one knows every answer, one knows none."""

from __future__ import annotations

from typing import Any

from lm_eval.api.model import LM

GOLD = {  # where a document keeps its answer
    "gsm8k": "answer",
    "minerva": "solution",
    "mbpp": "code",
    "humaneval": "canonical_solution",
}


def cut(text: str, until: list[str]) -> str:
    """An answer as lm-eval's own models return it: without the first stop string and what follows."""
    for stop in until:
        text = text.split(stop)[0]
    return text


class Oracle(LM):
    """Generates the gold solution, and finds the gold choice the likeliest."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []
        self.limits: set[Any] = set()

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        self.limits |= {request.args[1].get("max_gen_toks") for request in requests}
        return [cut(self.answer(request), request.args[1]["until"]) for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.prompts += [request.args[0] for request in requests]
        return [(self.weight(request), False) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError

    def answer(self, request: Any) -> str:
        return str(request.doc[GOLD[request.task_name.split("_")[0]]])

    def weight(self, request: Any) -> float:
        doc = request.doc
        gold = doc["choices"]["label"].index(doc["answerKey"]) if "answerKey" in doc else doc["answer"]
        return 0.0 if request.idx == gold else -1000.0


class Rubbish(Oracle):
    """Always writes the same nonsense, and always likes the first choice best."""

    def answer(self, _: Any) -> str:
        return "I would rather not say."

    def weight(self, request: Any) -> float:
        return -1.0 if request.idx == 0 else -1000.0
