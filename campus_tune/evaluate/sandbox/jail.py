"""What a judge and a program under test do first inside of their sandboxes: shut the door behind them.

Read by both from the text that their interpreter is started with (`isolation.BOOT`); standard library only.
"""

from __future__ import annotations

import os
import resource


def move_in(pipes: list[int], *, user: int, limits: dict[str, int]) -> list[int]:
    """Keep some pipes and the errors, nothing else that was open; take on a user without rights; set the limits.

    The standard input and output lead nowhere afterwards, as a program expects them to be there.

    Args:
        pipes: the files to keep.
        user: who to become.
        limits: by the names that `resource` has for them.

    Returns:
        The pipes, under new numbers.
    """
    kept = [os.dup(pipe) for pipe in pipes]
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    before = 3
    for pipe in sorted(kept):
        os.closerange(before, pipe)
        before = pipe + 1
    os.closerange(before, 2**16)  # `pass_fds` has let few in; this is for what the launcher had open
    os.environ.clear()
    if os.getuid() == 0:  # leave root, and with it every capability; elsewhere the sandbox has already seen to it
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for name, most in {**limits, "CORE": 0, "MSGQUEUE": 0}.items():  # so that they cannot be raised again
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = most + (name == "CPU")  # a second after the signal that can be ignored comes the one that cannot
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:
            hard = min(hard, ceiling)
        resource.setrlimit(kind, (min(most, hard), hard))
    return kept
