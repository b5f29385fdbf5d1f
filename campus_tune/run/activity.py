"""What this process is doing, so that a job that stops says where, and how long it works at each thing.

With many processes a failure shows twice: on the rank that failed, and on those that waited for it, whose own errors
("connection closed by peer") say nothing of the cause. Both name the activity here. A rank that is told to stop from
outside (the launcher sends SIGTERM to all when one has died) says so too, even while it waits inside of a collective.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from campus_tune.model.peers import Peers
from campus_tune.words.errors import PeerError

STARTING, SCORING, DECIDING, PROBING = "starting", "scoring", "deciding", "probing"
RESCORING, TRAINING, SAVING, FINISHING = "re-scoring", "training", "saving", "finishing"
EVALUATING, VALUING = "evaluating", "valuing"
LOST = (  # what torch's backends say when another process is gone or does not answer
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "timed out waiting",
    "gloo",
    "nccl",
    "socket",
)


class Activities:
    """The activity of one process, and the seconds of its own work in each.

    Args:
        peers: ranks.
        step: gives the number of finished optimizer steps.
    """

    def __init__(self, peers: Peers, step: Callable[[], int]) -> None:
        self.peers, self.step = peers, step
        self.current = STARTING
        self.seconds: dict[str, float] = {}  # without the time in which this rank waited for the others
        self._inside = 0.0  # seconds of activities inside of the current one

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """An activity inside of the current one; after an error the activity stays, for the message."""
        outer, inside, waited, began = self.current, self._inside, self.peers.waited, time.perf_counter()
        self.current, self._inside = name, 0.0
        yield
        work = time.perf_counter() - began - (self.peers.waited - waited)
        self.add(name, work - self._inside)
        self.current, self._inside = outer, inside + work

    def add(self, name: str, seconds: float) -> None:
        """Work of this rank that was measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around a whole run: whatever ends it early is reported with its activity. One process needs no such words.

        Raises:
            PeerError: another process is gone or stopped answering.
        """
        if self.peers.world == 1:
            yield
            return
        try:
            with _heard(signal.SIGTERM, lambda: self._say("was told to stop (SIGTERM)")):
                yield
        except Exception as error:
            if not is_loss_of_a_peer(error):
                self._say(f"failed ({type(error).__name__})")
                raise
            raise PeerError(
                f"{self._where('lost another process')}: {str(error).strip().splitlines()[0]}. The cause is in "
                "the message of the rank that ended first, or in the system's log when it was killed (out of memory?). "
                "Then launch again with resume_from_checkpoint: true."
            ) from error

    def _where(self, what: str) -> str:
        step = self.step()
        return f"rank {self.peers.rank} of {self.peers.world} {what} while {self.current}, after step {step}"

    def _say(self, what: str) -> None:
        print(f"campus: {self._where(what)}", file=sys.stderr, flush=True)


def is_loss_of_a_peer(error: BaseException) -> bool:
    """Whether an error says that a collective could not be finished."""
    import torch.distributed as dist

    if isinstance(error, getattr(dist, "DistError", ())):
        return True
    return type(error) is RuntimeError and any(word in str(error).lower() for word in LOST)


@contextmanager
def _heard(number: signal.Signals, say: Callable[[], None]) -> Iterator[None]:
    """Say something when a signal comes, then end as the signal asks.

    A thread listens, because the main one may be inside of a collective, where Python's own handlers wait. Where the
    program has a handler of its own, or this is not its main thread, nothing is changed.

    `faulthandler` would be heard there too, and prints stacks: neither the activity nor the step, and
    thirty lines from each rank and from every forked worker that a pool ends.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return
    listens, tells = socket.socketpair()
    tells.setblocking(False)

    def listen() -> None:
        while (heard := listens.recv(1)) not in (b"", _ENOUGH):
            if heard[0] == number:
                say()
                os._exit(128 + number)  # what the signal does to a program that has no handler

    thread = threading.Thread(target=listen, daemon=True, name="campus signals")
    thread.start()
    earlier = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    signal.signal(number, _left_to_the_thread)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(earlier)
        tells.send(_ENOUGH)  # closing would not end it: data loader workers hold the other end too
        thread.join()
        tells.close()
        listens.close()


_ENOUGH = b"\0"  # no signal has this number


def _left_to_the_thread(number: int, frame: object) -> None:
    """The handler that makes Python write a signal's number to the thread that listens."""


def _hold_back() -> None:
    """Before a fork: until the child has put the handler off, the signal waits, else it would tell of us."""
    if signal.getsignal(signal.SIGTERM) is _left_to_the_thread:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_go() -> None:
    if signal.getsignal(signal.SIGTERM) is _left_to_the_thread:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _let_go_in_child() -> None:
    """Workers that are forked meanwhile end as they would have, and tell nothing of theirs to this process."""
    if signal.getsignal(signal.SIGTERM) is _left_to_the_thread:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


os.register_at_fork(before=_hold_back, after_in_parent=_let_go, after_in_child=_let_go_in_child)
