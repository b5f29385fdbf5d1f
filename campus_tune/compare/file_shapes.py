"""What the files of a comparison hold, as far as its page, its verdict and its next runs take for granted."""

from __future__ import annotations

from typing import Any

MAYBE = (float, None)
WORDS = (str, None)
NUMBERS = ({str: MAYBE}, None)

GAP = {f"{name}?": MAYBE for name in ("value", "at_start", "grown", "stderr", "grown_stderr", "test", "trained")}
SHARPNESS = {"value": MAYBE, "relative?": MAYBE, "merged?": MAYBE}

ARM = {"kind": str, "campus?": ({}, None)}
COMPARISON: dict[str, Any] = {
    "format": int,
    "arms": {str: ARM},
    "earlier?": {str: ARM},
    "seeds": [int],
    "effect?": float,
    "test?": ({"path?": ([str], None), "items?": int, "digest?": str}, None),
    "training?": ({}, None),
    "command?": str,
    "made_with?": ({}, None),
    "measure?": str,
    "trainer?": str,
    "samples?": int,
}
RESULT: dict[str, Any] = {
    "format": int,
    "arm": str,
    "kind": str,
    "campus?": {},
    "seed": int,
    "status": str,
    "message?": WORDS,
    "shared": {"steps?": int, "made_with?": {}},
    "only?": ({}, None),
    "as_long?": ({}, None),
    "tokens?": MAYBE,
    "rows?": MAYBE,
    "seconds?": NUMBERS,
    "cost?": NUMBERS,
    "curve?": (
        {
            "tokens": [MAYBE],
            "seconds?": [MAYBE],
            "loss?": [MAYBE],
            "reward?": [MAYBE],
            "domains?": ({str: [MAYBE]}, None),
        },
        None,
    ),
    "choices?": ([{"step": int, "steps": int, "chosen": str, "rows?": int, "shares?": {str: float}}], None),
    "learning_rate?": ({str: [MAYBE]}, None),  # in those of versions that wrote it
    "calibration?": ({"error": MAYBE, "bins": [[MAYBE, MAYBE, float]], "domains?": {str: MAYBE}}, None),
    "gap?": ({**GAP, "domains?": ({str: GAP}, None)}, None),
    "sharpness?": ({**SHARPNESS, "domains?": ({str: SHARPNESS}, None)}, None),
    "audit?": ({"checked": int, "passed": int}, None),
    "weights_audit?": [int, int],
    "evaluation?": ({str: {str: {str: MAYBE}}}, None),
    "test?": (
        {
            "domains": [str],
            "items": [object],
            "domain": [int],
            "tokens?": [float],
            "loss?": [MAYBE],
            "reward?": [MAYBE],
            "by_function?": {str: MAYBE},
        },
        None,
    ),
    "measure?": str,
    "groups?": ({"n": int, "without_gradient?": MAYBE, "shuffled?": MAYBE}, None),
}
LEG: dict[str, Any] = {
    "format": int,
    "arm": str,
    "campus": {},
    "seed": int,
    "status": str,
    "message?": WORDS,
    "step": int,
    "steps": int,
    "over": bool,
    "curve": {"step": [int], "loss": [float]},
    "test": RESULT["test?"],
}
LENGTH = {"n": int, **{f"{name}?": MAYBE for name in ("steps", "tokens", "passes", "loss")}, "diverged?": [int]}
CURVE = {"seed": int, "step": [int], "loss": [float]}
SEARCH: dict[str, Any] = {
    "format": int,
    "space": {str: list},
    "rows": {"path": [str], "items": int},
    "seeds": int,
    "wanted": int,
    "sampler": str,
    "command?": str,
    "ladder?": ({"steps": [int], "why": str}, None),
    "recipe?": [CURVE],
    "rungs?": [{"step": int, "trials": int, "trial_spread": MAYBE, "seed_spread": MAYBE}],
    "trials?": [{"trial": int, "changes": {}, "losses": [MAYBE], "message": WORDS}],
    "standing?": ({"best": int, "loss": float, "recipe": float, "change": float, "luck": float, "chance": float}, None),
    "conclusion?": ({"winner": (int, None), "why": str}, None),
    "judged?": ({}, None),
}
DIFFERENCE = (
    {
        **{f"{name}?": MAYBE for name in ("value", "low", "high", "mean", "mean_against", "detectable", "p_adjusted")},
        "n_items?": (int, None),  # of speed and of readings there are none
    },
    None,
)
JUDGEMENT = {
    "kind": str,
    "verdict": WORDS,
    "sentence": str,
    "attribution?": WORDS,
    "difference?": DIFFERENCE,
    "domains?": ({str: DIFFERENCE}, None),
}
RATIO = ({"value?": MAYBE, "low?": MAYBE, "high?": MAYBE}, None)
SPEED = {
    "verdict": WORDS,
    "sentence?": WORDS,
    "reached?": ({str: MAYBE}, None),
    "charged?": RATIO,
    "tokens?": RATIO,
    "seconds?": RATIO,
    "domains?": ({str: {"charged?": RATIO, "reached?": ({str: MAYBE}, None), "refused?": WORDS}}, None),
}
READING = {"difference?": DIFFERENCE, "domains?": ({str: DIFFERENCE}, None)}
RHO = {"value": MAYBE, "low": MAYBE, "high": MAYBE, "n": int}
PROXY = {
    "folder": str,
    "model": str,
    "rows": int,
    "known": int,
    "scores": {
        str: {
            "overall": RHO,
            "within": (RHO, None),
            "domains": {str: RHO},
            "third": MAYBE,
            "ceiling": MAYBE,
            "word": str,
            "basis": str,
            "sentence": str,
        }
    },
    "notes": [str],
}
VERDICT: dict[str, Any] = {
    "format": int,
    "seeds": [int],
    "judgements": {str: JUDGEMENT},
    "speed?": ({str: SPEED}, None),
    "tasks?": ({str: {str: JUDGEMENT}}, None),
    "notes?": ([str], None),
    "readings?": ({str: {str: READING}}, None),
    "proxy?": (PROXY, None),
    "measure?": str,
    "equal?": {str: {"difference": DIFFERENCE[0], "share": float, "sentence?": str}},
}
EFFECT = {"verdict": WORDS, **DIFFERENCE[0]}
MATRIX = ({"cells": {str: {str: EFFECT}}, "overall": {str: EFFECT}, "refused?": {str: str}}, None)
ABLATION: dict[str, Any] = {
    "format": int,
    "finished": bool,
    "model": str,
    "target": WORDS,
    "tokens": str,
    "domains": {str: int},
    "left_out": [str],
    "seeds": [int],
    "effect": float,
    "test?": ({"path?": ([str], None), "items?": int, "digest?": str}, None),
    "training?": ({}, None),
    "campus?": ({}, None),
    "command?": str,
    "runs?": {str: LENGTH},
    "without?": MATRIX,
    "only?": MATRIX,
    "graph?": {str: {str: float}},
}
