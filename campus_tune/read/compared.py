"""A comparison as functions: make one (`run_comparison`), open one (`open_comparison`), and use what it came to."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from campus_tune.compare import detectable
from campus_tune.compare.campaign import Campaign
from campus_tune.compare.ctrl_c import CtrlC
from campus_tune.compare.proxy_scores import read_proxy
from campus_tune.compare.reading import plan_comparison
from campus_tune.compare.result_file import run_folder
from campus_tune.compare.reward_training import make_bench
from campus_tune.compare.run_bar import RunBar
from campus_tune.compare.verdict import Judgement, Verdict, arm_of, lines
from campus_tune.compare.verdict_file import write_verdict
from campus_tune.read.inline_page import InlinePage
from campus_tune.report import write
from campus_tune.report.compare_facts import final_value, read_comparison
from campus_tune.run.ledger import plain
from campus_tune.run.lock import RunLock
from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.library_warnings import hushed
from campus_tune.words.progress import VOLUME
from campus_tune.words.registry import nearest
from campus_tune.words.tables import html_table
from campus_tune.words.types import Json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from campus_tune.compare.plan import Plan
    from campus_tune.read.opened_run import OpenedRun

RECIPE = "recipe.yaml"  # in a comparison's folder: the recipe of one that was given as a mapping


def run_comparison(
    recipe: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    arms: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    test: str | Path | Sequence[str | Path] | None = None,
    jobs: int | None = None,
    devices: Sequence[int] | None = None,
    random_plus: bool = False,
    pilot: bool = False,
    earlier: str | Path | None = None,
    flags: Sequence[str] = (),
    quiet: bool = False,
) -> ComparisonResult:
    """Train a recipe, plain shuffling and the controls with several seeds, and judge the difference.

    It is `campus-tune compare` as a function: runs that are finished are kept, so the same call goes on after it was
    interrupted, and gives the same result at once where nothing is missing.

    Args:
        recipe: a YAML with the blocks `campus:` and `compare:`, or the same as a mapping, which is written to
            `OUT/recipe.yaml`.
        out: folder of the comparison; None takes the recipe's output_dir.
        arms: which are trained; None the recipe's, else those that suit it.
        seeds: how many, or which; None the recipe's, else 5.
        test: held-out rows that decide; None the recipe's.
        jobs: runs at once on processor cores; more than 1 starts processes, which a script must guard by
            `if __name__ == "__main__":`.
        devices: GPUs, each with a run of its own.
        random_plus: also plain shuffling for as much compute as the recipe.
        pilot: train plain shuffling alone, and say which effect could be found.
        earlier: folder of an earlier comparison that says so before anything is trained.
        flags: of TRL's and of the blocks, as the command takes them: `["--learning_rate", "1e-4"]`.
        quiet: say nothing on the way but warnings.

    Raises:
        CampusError: wrong settings, rows that cannot decide, a run that cannot be made. Finished runs are kept.
    """
    given = {
        "arms": None if arms is None else list(arms),
        "seeds": [seeds] if isinstance(seeds, int) else seeds and list(seeds),
        "test": [str(test)] if isinstance(test, str | Path) else test and [str(path) for path in test],
        "jobs": jobs,
        "devices": devices and list(devices),
    }
    folder = None if out is None else Path(out)
    before = None if earlier is None else Path(earlier)
    with CtrlC() as ctrl_c, hushed(), VOLUME.quieted(wanted=quiet):
        with tempfile.TemporaryDirectory() as held:
            config, content = str(recipe), ""
            if isinstance(recipe, Mapping):
                content, config = yaml.safe_dump(plain(recipe), sort_keys=False), f"{held}/{RECIPE}"
                Path(config).write_text(content, "utf-8")
            plan = plan_comparison(config, flags, given, out=folder, random_plus=random_plus)
        config = str(plan.out / RECIPE) if content else config
        command = command_line(config, {"out": out, **given}, flags, random_plus=random_plus)
        result = make_comparison(plan, command, pilot=pilot, earlier=before, check=ctrl_c.check)
    if content:  # not before: what is in the folder may be another comparison, which the lines above refuse
        atomic_write(plan.out / RECIPE, content)
    return result


def command_line(config: str, given: Mapping[str, Any], rest: Sequence[str], *, random_plus: bool) -> str:
    """The command that makes a comparison, as its folder keeps it.

    Args:
        config: the recipe's file.
        given: value of each flag; None and what is empty is left out.
        rest: words that are handed on.
        random_plus: whether that arm is asked for.
    """
    words = ["campus-tune", "compare", "--config", config]
    for name in ("out", "arms", "seeds", "test", "jobs", "devices"):
        if value := given.get(name):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join([*words, *(["--random-plus"] if random_plus else []), *rest])


def make_comparison(
    plan: Plan,
    command: str,
    *,
    pilot: bool = False,
    earlier: Path | None = None,
    check: Callable[[], object] = lambda: None,
) -> ComparisonResult:
    """All runs that are missing, told one after the other; then the verdict, in verdict.json and in the report.

    Args:
        plan: what is compared.
        command: that started it.
        pilot: train the baseline alone, and say which effect could be found.
        earlier: folder of an earlier comparison that says so before.
        check: called after each run; raises what shall end the comparison there.

    Raises:
        CampusError: rows that cannot decide, a run that cannot be made, another comparison's folder.
    """
    if plan.settings.proxy is not None:
        read_proxy(plan.settings.proxy)  # refused before anything is trained
    lock = RunLock(plan.out, what="--out")
    lock.take()
    campaign = Campaign(plan, command, pilot=pilot, check=check)
    bar = RunBar(campaign)
    bench = make_bench(plan, bar.tick)
    try:
        if earlier is not None:
            detectable.say(campaign, detectable.from_earlier(earlier, plan))
        campaign.begin(bench.deciding_rows())
        campaign.train(["baseline"], bench)
        plans = detectable.from_baseline(campaign)
        detectable.say(campaign, plans)
        if pilot:
            return ComparisonResult(plan.out)
        campaign.train(["recipe", "control"], bench)
        campaign.train(["control", "plus"], bench)  # those that await the recipe's runs
        write_verdict(campaign, plans)
        return ComparisonResult(plan.out, write.write_report(plan.out))
    finally:
        campaign.close()
        bar.close()
        lock.release()


def open_comparison(folder: str | Path) -> ComparisonResult:
    """The result of a comparison that was made, or of what there is so far of one that goes on.

    Args:
        folder: that `campus-tune compare` or `run_comparison` wrote into.

    Raises:
        DataError: no comparison is there, no run of it is finished, or a file of it is damaged.
    """
    return ComparisonResult(Path(folder))


class ComparisonResult:
    """What a comparison came to; in a notebook, its verdict and its arms as a small table.

    Args:
        folder: of the comparison.
        page: its page, where that was written just now.

    Raises:
        DataError: no comparison is there, no run of it is finished, or a file of it is damaged.
    """

    def __init__(self, folder: Path, page: Path | None = None) -> None:
        self.folder, self.page = folder, page
        self._facts = read_comparison(folder)

    @property
    def finished(self) -> bool:
        """All runs are there, and judged."""
        return self._facts.finished

    @cached_property
    def verdict(self) -> Verdict | None:
        """All that was judged; None before the last run, and of a pilot."""
        facts = self._facts
        return None if facts.verdict is None or not facts.judged else Verdict.from_mapping(facts.verdict)

    @property
    def words(self) -> dict[str, str | None]:
        """Arm → its verdict in a word: helped, hurt, …; None where the runs bear none. {} before there is one."""
        return {name: one.verdict for name, one in self._judged.items() if one.kind != "control"}

    @property
    def sentences(self) -> list[str]:
        """The verdict in sentences: on the end, on its reason, on speed."""
        found = []
        for judged in self._judged.values():
            if self.verdict is not None and judged.kind != "control":
                found += [judged.sentence, *([judged.attribution] if judged.attribution else [])]
                found.append(self.verdict.speed[judged.arm].sentence)
                found += [self.verdict.equal[judged.arm].sentence] if judged.arm in self.verdict.equal else []
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """A line for each arm.

        `arm`, `kind`, `seeds` that finished, `loss` at the end (mean over seeds, nats per token; of arms that are
        trained by reward `reward`, in all tables) and its `spread` over them, `difference` to the baseline with `low`
        and `high` of its interval as shares of the baseline's, `p` (corrected), `verdict` in a word, `sooner` (tokens
        saved until the baseline's loss, a share), `cost` of measuring as a share of the training; NaN or None where
        nothing is known.
        """
        import pandas as pd  # the command has no use for it

        found = pd.DataFrame(list(self._lines()))
        numbers = (self._facts.measure, "spread", "difference", "low", "high", "p", "sooner", "cost")
        return found.astype(dict.fromkeys(numbers, "float64"))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A line for each run.

        `arm`, `kind`, `seed`, `status` (finished or diverged), `loss` on the test rows at the end, `tokens` and `rows`
        that were trained, `cost` of measuring as a share of the training, `seconds` of training, `folder`.
        """
        import pandas as pd

        measure = self._facts.measure
        found = [
            {
                "arm": arm.name,
                "kind": arm.kind,
                "seed": run["seed"],
                "status": run["status"],
                measure: final_value(run) if run.get("test") else None,
                "tokens": run.get("tokens"),
                "rows": run.get("rows"),
                "cost": (run.get("cost") or {}).get("all"),
                "seconds": (run.get("seconds") or {}).get("training"),
                "folder": str(run_folder(self.folder, arm.name, run["seed"])),
            }
            for arm in self._facts.arms
            for run in arm.runs
        ]
        return pd.DataFrame(found).astype(dict.fromkeys((measure, "tokens", "rows", "cost", "seconds"), "float64"))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A line for each point of each run's curve: `arm`, `seed`, `step`, `tokens`, `seconds`, `loss` (test rows)."""
        import pandas as pd

        measure = self._facts.measure
        parts = [
            pd.DataFrame({name: run["curve"][name] for name in ("step", "tokens", "seconds", measure)}).assign(
                arm=arm.name, seed=run["seed"]
            )
            for arm in self._facts.arms
            for run in arm.runs
            if run.get("curve")
        ]
        order = ["arm", "seed", "step", "tokens", "seconds", measure]
        return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)

    def run(self, arm: str, seed: int) -> OpenedRun:
        """One of its runs, opened.

        Args:
            arm: name of its arm.
            seed: of the run.

        Raises:
            DataError: there is no such run, or it left no ledger.
        """
        from campus_tune.read.opened_run import open_run

        return open_run(run_folder(self.folder, arm, seed))

    def plot(self, name: str = "curves") -> Figure:
        """One of the pictures of its page as a figure of matplotlib's.

        Args:
            name: `curves` (test loss over trained tokens), `domain_curves`, `choices`, `costs`, …

        Raises:
            DataError: the page has no picture of that name; those that it has are named.
        """
        from campus_tune.report.compare_plots import compare_pictures

        drawn = {picture.name: picture for picture in compare_pictures(self._facts)}
        if name not in drawn:
            raise DataError(
                f"`plot` must be given a picture of the comparison, got {name!r}.{nearest(name, list(drawn))} Take one "
                f"of {', '.join(drawn)}."
            )
        return drawn[name].figure()

    def report(self, out: str | Path | None = None) -> InlinePage:
        """Write the page of the comparison, and show it where this is a notebook.

        Args:
            out: the page; None puts `report.html` into the folder.

        Raises:
            StorageError: the page cannot be written.
        """
        return InlinePage(write.write_report(self.folder, out))

    def to_mapping(self) -> Json:
        """What `campus-tune compare --json` prints."""
        facts = self._facts
        return {
            "folder": str(self.folder),
            "report": None if self.page is None else str(self.page),
            "finished": self.finished,
            "runs": facts.n_done,
            "planned_runs": facts.n_planned,
            "words": self.words,
            "sentences": self.sentences,
            "arms": list(self._lines()),
            "verdict": facts.verdict if facts.judged else None,
        }

    def __str__(self) -> str:
        """The verdict and the table it rests on, as the command prints them; "" before there is one."""
        if self.verdict is None:
            return ""
        judged = [arm_of(list(arm.runs)) for arm in self._facts.arms if arm.runs]
        report = [] if self.page is None else [f"the report: {self.page}"]
        return "\n".join([*lines(self.verdict, judged), *report])

    def __repr__(self) -> str:
        facts = self._facts
        verdict = "\n".join(self.sentences) or f"no verdict yet: {facts.n_done} of {facts.n_planned} runs are there"
        return f"comparison {self.folder}\n{verdict}"

    def _repr_html_(self) -> str:
        def percent(share: float | None) -> str:
            return "" if share is None else f"{100 * share:+.1f} %"

        measure = self._facts.measure
        rows = [
            [
                line["arm"],
                "" if line[measure] is None else f"{line[measure]:.4f}",
                percent(line["difference"]),
                f"{percent(line['low'])} to {percent(line['high'])}" if line["low"] is not None else "",
                "" if line["p"] is None else f"{line['p']:.3f}",
                line["verdict"] or "",
            ]
            for line in self._lines()
        ]
        head = ("arm", f"final {measure}", f"against {self._facts.baseline}", "interval", "p", "verdict")
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences) + html_table(rows, head)

    @property
    def _judged(self) -> Mapping[str, Judgement]:
        return {} if self.verdict is None else self.verdict.judgements

    def _lines(self) -> Iterator[Json]:
        """Of `table`."""
        for arm in self._facts.arms:
            losses = arm.final_losses()
            judged = self._judged.get(arm.name)
            found = None if judged is None else judged.difference
            speed = None if self.verdict is None else self.verdict.speed.get(arm.name)
            saved = None if speed is None or speed.charged is None else speed.charged.relative
            yield {
                "arm": arm.name,
                "kind": arm.kind,
                "seeds": len(arm.finished),
                self._facts.measure: float(losses.mean()) if len(losses) else None,
                "spread": float(losses.std(ddof=1)) if len(losses) > 1 else None,
                "difference": found and found.relative,
                "low": found and found.share(found.low),
                "high": found and found.share(found.high),
                "p": found and found.p_adjusted,
                "verdict": judged and judged.verdict,
                "sooner": None if saved is None else -saved,
                "cost": arm.mean("cost", "all"),
            }
