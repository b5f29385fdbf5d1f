"""Whether the sandbox gives the verdict that plain Python gives: on reference answers, and on mutants of them.

Every reference of HumanEval and MBPP is run as it is and in some mutants (a constant, an operator, a comparison, a
condition or a result changed), once as evaluate's metric does it, `exec` of program and checks in a throwaway
process, and once in the sandbox. Prints both counts and each problem where they differ.

    python eval/sandbox_scores.py DATA                       # a folder with humaneval/ and mbpp/, as jsonl.gz
    python eval/sandbox_scores.py DATA --mutants 1 --every 10    # a look

Mutants are drawn with `--seed`. Differences to expect: a program that takes more than its seconds on one side only,
one that answers with an object of its own class, or draws at random.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gzip
import io
import json
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campus_tune.evaluate.sandbox import Limits, run_many, sandbox_kind

SECONDS = 5
SWAPS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add, ast.Pow), ast.Div: (ast.FloorDiv, ast.Mult),
    ast.FloorDiv: (ast.Div,), ast.Mod: (ast.FloorDiv,), ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt,), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.And: (ast.Or,),
    ast.Or: (ast.And,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.BitXor: (ast.BitOr,), ast.BitAnd: (ast.BitOr,),
}  # fmt: skip


def programs(data: Path) -> Iterator[tuple[str, str, str]]:
    """(name, reference, checks), as lm-eval puts them together, and all other splits of MBPP with their set-up code."""
    for row in rows(data / "humaneval" / "test.jsonl.gz"):
        checks = f"{row['test']}\ncheck({row['entry_point']})"
        yield row["task_id"], row["prompt"] + row["canonical_solution"], checks
    for split in ("test", "train", "validation", "prompt", "sanitized_all"):
        for row in rows(data / "mbpp" / f"{split}.jsonl.gz"):
            setup = [row.get("test_setup_code", ""), *row.get("test_imports", [])]
            yield f"mbpp {split} {row['task_id']}", row["code"], "\n".join([*filter(None, setup), *row["test_list"]])


def rows(path: Path) -> list[dict[str, Any]]:
    """Of one file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def changes(tree: ast.AST) -> Iterator[tuple[int, str, Any]]:
    """Each way to change one node: its place in `ast.walk`, the field, and the new value."""
    for place, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            other = (
                not node.value
                if isinstance(node.value, bool)
                else node.value + ("x" if isinstance(node.value, str) else 1)
            )
            yield place, "value", other
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
            yield from ((place, "op", new()) for new in SWAPS.get(type(node.op), ()))
        if isinstance(node, ast.Compare):
            yield from ((place, "ops", [new(), *node.ops[1:]]) for new in SWAPS.get(type(node.ops[0]), ()))
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield place, "test", ast.UnaryOp(ast.Not(), node.test)
        if isinstance(node, ast.Return) and node.value is not None:
            name = ast.Name("list" if place % 2 else "iter", ast.Load())
            yield place, "value", ast.Call(name, [node.value], [])
            yield place, "value", ast.Constant(None)


def mutants(source: str, count: int, random_: random.Random) -> list[str]:
    """Some programs that differ from one in one place each."""
    tree = ast.parse(source)
    all_ = list(changes(tree))
    made = []
    for place, field, value in random_.sample(all_, min(count, len(all_))):
        mutant = copy.deepcopy(tree)
        setattr(list(ast.walk(mutant))[place], field, value)
        made.append(ast.unparse(ast.fix_missing_locations(mutant)))
    return made


def official(source: str, checks: str) -> bool:
    """What evaluate's metric does, in a process that is thrown away: its own limits aside, nothing protects from it."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
            signal.alarm(3 * SECONDS)
            with (
                open(os.devnull, "w") as null,
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(null),
            ):
                exec(f"{source}\n{checks}", {})
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """Run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--mutants", type=int, default=2, help="of each reference")
    parser.add_argument("--every", type=int, default=1, help="take one problem in so many")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random_ = random.Random(arguments.seed)
    cases = []
    for name, source, checks in list(programs(arguments.data))[:: arguments.every]:
        cases.append((name, "reference", source, checks))
        cases += [(name, "mutant", one, checks) for one in mutants(source, arguments.mutants, random_)]
    began = time.monotonic()
    theirs = [official(source, checks) for _, _, source, checks in cases]
    plain = time.monotonic() - began
    limits = Limits(cpu_seconds=SECONDS, wall_seconds=12.0 * SECONDS)
    ours = run_many([(source, checks) for _, _, source, checks in cases], limits=limits)
    took = time.monotonic() - began - plain
    counts = Counter((kind, their, our.passed) for (_, kind, _, _), their, our in zip(cases, theirs, ours, strict=True))
    for (name, kind, source, _), their, our in zip(cases, theirs, ours, strict=True):
        if their != our.passed:
            plainly = "passed" if their else "failed"
            print(f"DIFFER {name} ({kind}): plain {plainly}, here {our.outcome}: {our.detail[-200:]!r}")
            print("    " + source.replace("\n", "\n    "))
    for kind in ("reference", "mutant"):
        same = {their: counts[kind, their, their] for their in (True, False)}
        differ = f"{counts[kind, True, False]} pass only plainly, {counts[kind, False, True]} only here"
        print(f"{kind}s: {same[True]} pass both, {same[False]} fail both, {differ}")
    each = [round(1000 * seconds / len(cases)) for seconds in (plain, took)]
    print(f"{len(cases)} programs, {sandbox_kind()}: plain {each[0]} ms, here {each[1]} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
