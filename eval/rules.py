"""How often do rules err where the truth is known, and what do they find? Made-up histories of probes.

    python eval/rules.py                       200 histories a line: some minutes, the tables for eval/LOG.md
    python eval/rules.py --times 50            quicker and coarser

Rows of a probe differ from one another (30 % on a log scale) and jitter by themselves from one measurement to the next;
the true level of a domain stands still, falls or rises. A false alarm is a history with at least one firing where none
is due: of `regression` on a level that stands still, of `milestone` on one that stands at its target, of `stagnation`
on one that falls by just `least` in a window, at the run's mean rate, under three schedules.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from campus_tune.method.firing import Firing
from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.method.rules import Milestone, Regression, Rule, Shown, Stagnation, judged
from campus_tune.method.view import History
from campus_tune.words.types import FloatArray

SPREAD = 0.3  # of rows, on a log scale
TOKENS = 8  # of each row's answer
SCHEDULES = ("constant", "linear", "cosine")


def history_of(
    rule: Rule, truth: FloatArray, *, n: int, jitter: float, mass: FloatArray, rng: np.random.Generator
) -> list[Firing]:
    """The firings of one made-up run.

    Args:
        rule: that looks.
        truth: level of each domain at each measurement, nats per token, shape (T, D).
        n: probe rows of each domain.
        jitter: of a row from one measurement to the next, on a log scale.
        mass: part of the learning rates behind each measurement, shape (T,).
        rng: of the rows.
    """
    times, n_domains = truth.shape
    rows = np.exp(SPREAD * rng.standard_normal((n_domains, n)) - SPREAD**2 / 2)
    tokens, ids = np.full(n, TOKENS), np.arange(n)
    measured, firings, shares = ProbeHistory(), list[Firing](), {str(d): 1 / n_domains for d in range(n_domains)}
    for i in range(times):
        noise = np.exp(jitter * rng.standard_normal((n_domains, n)) - jitter**2 / 2)
        nll = truth[i][:, None] * rows * noise * TOKENS
        now = {str(d): ProbeRows(ids, nll[d], tokens, tokens // 2) for d in range(n_domains)}
        progress = i / max(1, times - 1)
        measured = measured.taken(now, stage=i, step=10 * i, progress=progress, mass=float(mass[i]), tokens=0)
        shown = Shown(History(measured=measured, firings=tuple(firings)), shares, 10 * max(1, times - 1))
        firings += judged([rule], shown)
    return firings


def mass_of(schedule: str, times: int) -> FloatArray:
    """Part of the learning rates behind each of some measurements, evenly apart, shape (T,)."""
    x = np.linspace(0, 1, times)
    return {"constant": x, "linear": 2 * x - x**2, "cosine": x + np.sin(np.pi * x) / np.pi}[schedule]


def share_that_fire(
    rule: Rule, truth: FloatArray, *, n: int, jitter: float, mass: FloatArray, times: int, seed: int = 0
) -> float:
    """How many of some histories have a firing of the rule's own kind, as a part of them."""
    rng = np.random.default_rng([seed, n, len(truth)])
    fired = [history_of(rule, truth, n=n, jitter=jitter, mass=mass, rng=rng) for _ in range(times)]
    return sum(any(one.kind == rule.kind for one in firings) for firings in fired) / times


def settings() -> Iterator[tuple[str, Rule, FloatArray, int, float, str]]:
    """(What, rule, truth, rows, jitter, schedule) of every line on false alarms."""
    for n_domains, n, jitter, length in ((1, 8, 0.3, 20), (1, 8, 0.3, 60), (1, 64, 0.1, 60), (4, 32, 0.1, 40)):
        yield "stands still", Regression(), np.ones((length, n_domains)), n, jitter, "constant"
    for n, jitter, length in ((16, 0.1, 30), (64, 0.1, 30), (64, 0.1, 60)):
        yield "at its target", Milestone("m", "0", loss=1.0), np.ones((length, 1)), n, jitter, "constant"
    for schedule in SCHEDULES:
        rule = Stagnation()
        falls = np.exp(-rule.least * 29 / rule.window * mass_of(schedule, 30))[:, None]
        yield "still falls", rule, falls, 64, 0.02, schedule


def powers() -> Iterator[tuple[float, int, float]]:
    """(Rise, rows, jitter) of every line on what is found."""
    return ((rise, n, 0.1) for n in (16, 64, 200) for rise in (0.05, 0.10, 0.20))


def tables(times: int) -> str:
    """Both tables as Markdown."""
    lines = [["rule", "truth", "domains", "rows", "jitter", "measurements", "rate", "false alarms"]]
    lines += [["---"] * 8]
    for what, rule, truth, n, jitter, schedule in settings():
        wrong = share_that_fire(rule, truth, n=n, jitter=jitter, mass=mass_of(schedule, len(truth)), times=times)
        length, n_domains = truth.shape
        lines.append([rule.kind, what, str(n_domains), str(n), f"{jitter:g}", str(length), schedule, f"{wrong:.1%}"])
    found = [["rise", "rows", "jitter", "found within four measurements"], ["---"] * 4]
    for rise, n, jitter in powers():
        truth = np.concatenate([np.ones((12, 1)), np.full((4, 1), 1 + rise)])
        share = share_that_fire(Regression(), truth, n=n, jitter=jitter, mass=mass_of("constant", 16), times=times)
        found.append([f"{rise:.0%}", str(n), f"{jitter:g}", f"{share:.0%}"])
    return "\n\n".join(_markdown(table) for table in (lines, found))


def _markdown(table: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, metavar="N", help="histories of each line (%(default)s)")
    print(tables(parser.parse_args(arguments).times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
