"""Attacks on the sandbox: programs that answer wrongly, and try to pass in every way that we know of. None may.

The list is that of the tests (`tests/evaluate/forgeries.py` and `hostile.py`), of which the suite runs a sample. Each
program runs in both kinds of sandbox, as root and as an ordinary user, where this machine has them; what it has not is
skipped by name. Prints a line for each attack, a summary, and ends with 1 if any forged a pass.

    python eval/sandbox_attacks.py              # all: some minutes on two cores
    python eval/sandbox_attacks.py forgery lie  # groups of them
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TESTS = "tests/evaluate/"
SANDBOX = "campus_tune/evaluate/sandbox"
FILES = (
    "eval/sandbox_attacks.py",
    "campus_tune/words/errors.py",
    "campus_tune/words/wording.py",
    f"{TESTS}hostile.py",
    f"{TESTS}forgeries.py",
)
SKIPPED = 77
if "tests" not in sys.modules:  # textstat installs a package of that name, which would be found first
    package = types.ModuleType("tests")
    package.__path__ = [str(REPOSITORY / "tests")]
    sys.modules["tests"] = package
    sys.path.insert(0, str(REPOSITORY))


def attack(kind: str, groups: list[str], workers: int) -> int:
    """All attacks in one kind of sandbox, as the user that this process has."""
    from campus_tune.evaluate.sandbox import sandbox
    from tests.evaluate.forgeries import FORGERIES
    from tests.evaluate.hostile import HOSTILE

    problem = sandbox._problem_of(kind)  # type: ignore[arg-type]  # one of KINDS
    if problem is not None:
        print(f"skipped: {problem}")
        return SKIPPED
    sandbox.sandbox_kind = lambda: kind  # type: ignore[assignment,return-value]
    attacks = {name: one for name, one in (FORGERIES | HOSTILE).items() if not groups or name.split(":")[0] in groups}
    limits = sandbox.Limits(cpu_seconds=2, wall_seconds=20.0, memory_mb=512)
    programs = [(one.source.replace("PORT", "9").replace("VICTIM", "999999"), one.checks) for one in attacks.values()]
    verdicts = sandbox.run_many(programs, limits=limits, workers=workers)
    for name, verdict in zip(attacks, verdicts, strict=True):
        last = verdict.detail.rpartition("\n")[2]
        print(f"{'FORGED' if verdict.passed else verdict.outcome:12} {name}: {last[:100]}")
    forged = sum(verdict.passed for verdict in verdicts)
    print(f"{len(attacks)} attacks, {forged} forged a pass")
    return int(forged > 0)


def users() -> dict[str, list[str] | None]:
    """How to run Python as whom; None: there is no way here."""
    from tests.evaluate.ordinary_user import AS_USER, python_for_all

    if os.geteuid():
        return {"an ordinary user": [sys.executable], "root": None}
    python = python_for_all() if shutil.which("setpriv") else None
    return {"root": [sys.executable], "an ordinary user": python and [*AS_USER, python]}  # type: ignore[dict-item]


def main() -> int:
    """Attack as everybody in everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help="forgery, lie, out of turn, native, network, …; all if not given")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kind", help="in this one alone, as who you are")
    arguments = parser.parse_args()
    if arguments.kind:
        return attack(arguments.kind, arguments.groups, arguments.workers)
    codes = []
    with tempfile.TemporaryDirectory() as name:  # a copy that every user may read, with nothing else to import
        shutil.copytree(REPOSITORY / SANDBOX, Path(name) / SANDBOX)
        for file in FILES:
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, Path(name) / file)
        for folder in ("campus_tune", "campus_tune/evaluate", SANDBOX, "campus_tune/words", "tests", "tests/evaluate"):
            (Path(name) / folder / "__init__.py").write_text("")
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        for kind in ("bubblewrap", "namespaces"):
            for user, command in users().items():
                print(f"\n== {kind}, as {user}", flush=True)
                if command is None:
                    print("skipped: no Python that this user may run, or no way to become them")
                    continue
                words = [*arguments.groups, "--kind", kind, "--workers", str(arguments.workers)]
                script = str(Path(name) / "eval" / "sandbox_attacks.py")
                codes.append(subprocess.run([*command, "-B", script, *words], cwd=name, check=False).returncode)
    ran = [code for code in codes if code != SKIPPED]
    print(f"\n{len(ran)} of 4 sandboxes attacked, {sum(map(bool, ran))} of them forged or broken")
    return int(not ran or any(ran))


if __name__ == "__main__":
    raise SystemExit(main())
