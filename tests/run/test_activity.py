"""What a process says of the activity it was in, and how the work of ranks is told from their waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch.distributed

from campus_tune.model.peers import Peers
from campus_tune.run.activity import DECIDING, PROBING, SCORING, TRAINING, Activities, is_loss_of_a_peer
from campus_tune.run.rank_load import RankLoad
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.run.stream.micro_batches import split_step, tokens_by_rank
from campus_tune.run.told.last_lines import ranks_line
from campus_tune.words.errors import DataError, PeerError
from campus_tune.words.types import Json
from tests.run.threads import on_ranks

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:52341"


def activities(world: int = 2, step: int = 12) -> Activities:
    return Activities(Peers(1, world), lambda: step)


def test_a_lost_peer_is_reported_with_the_activity_and_the_way_on() -> None:
    ours = activities()
    match = (
        r"rank 1 of 2 lost another process while deciding, after step 12: \[.*Connection closed .*ended first.*resume"
    )
    with pytest.raises(PeerError, match=match), ours.guarded(), ours(DECIDING):
        raise RuntimeError(GLOO)


def test_an_error_of_its_own_keeps_its_kind_and_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    ours = activities()
    with pytest.raises(DataError, match="no such row"), ours.guarded(), ours(SCORING):
        raise DataError("no such row")
    assert capsys.readouterr().err == "campus: rank 1 of 2 failed (DataError) while scoring, after step 12\n"


def test_one_process_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Activities(Peers(), lambda: 0)
    with pytest.raises(RuntimeError, match="closed by peer"), ours.guarded():
        raise RuntimeError(GLOO)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "is_loss"),
    [
        (RuntimeError(GLOO), True),
        (RuntimeError("Timed out waiting 20000ms for recv operation to complete"), True),
        (torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (DataError("a socket is no data"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_what_backends_say_is_told_from_other_errors(error: Exception, is_loss: bool) -> None:
    assert is_loss_of_a_peer(error) is is_loss


def test_activities_count_their_own_work_without_inner_activities_and_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    ours = activities()
    with ours(DECIDING):
        now[0] += 1.0
        with ours(PROBING):
            now[0] += 5.0
            ours.peers.waited += 2.0  # of these five
        with ours(PROBING):
            now[0] += 1.0
        assert ours.current == DECIDING
        now[0] += 0.5
    assert ours.seconds == {PROBING: 4.0, DECIDING: 1.5}


PROGRAM = """
import hashlib, sys, time
from campus_tune.model.peers import Peers
from campus_tune.run.activity import Activities
activities = Activities(Peers(1, 2), lambda: 7)
with activities.guarded(), activities("scoring"):
    print("ready", flush=True)
    time.sleep(60) if sys.argv[1] == "sleep" else hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize("busy", ["sleep", "inside of C"])
def test_a_process_that_is_told_to_stop_says_where_it_was(busy: str) -> None:
    """Inside of a long computation in C Python runs no handlers; a collective is one."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, busy],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert said == "campus: rank 1 of 2 was told to stop (SIGTERM) while scoring, after step 7\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_a_handler_of_the_program_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with activities().guarded():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_afterwards_the_signal_does_what_it_did() -> None:
    with activities().guarded():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_worker_forked_meanwhile_ends_alone_and_holds_nobody_up() -> None:
    """Pools end their workers by this signal; a worker that stays on must not keep the run from ending."""
    with activities().guarded():
        children = []
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
        os.kill(children[0], signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == -signal.SIGTERM
        time.sleep(0.1)  # in which this process is not told to stop
    os.kill(children[1], signal.SIGKILL)
    os.waitpid(children[1], 0)


# -- the picture ------------------------------------------------------------------------------------------------------


def test_tokens_and_padding_of_each_rank_by_hand() -> None:
    """Lengths 1 … 8 on two ranks and two micro batches of two rows: (1 2 | 3 4), (5 6 | 7 8)."""
    lengths = np.arange(1, 9)
    split = split_step(np.arange(8, dtype=np.int32), lengths, micro=2, world=2, cut="drawn")
    own, padded = tokens_by_rank(split, lengths, padded=True)
    assert own.tolist() == [1 + 2 + 5 + 6, 3 + 4 + 7 + 8]
    assert padded.tolist() == [2 * 2 + 2 * 6, 2 * 4 + 2 * 8]
    flat = tokens_by_rank(split, lengths, padded=False)
    assert flat[0].tolist() == flat[1].tolist() == own.tolist()


def test_rows_that_only_fill_a_micro_batch_count_no_tokens() -> None:
    lengths = np.full(3, 5)
    split = split_step(np.arange(1, dtype=np.int32), lengths, micro=1, world=2, cut="drawn")
    assert tokens_by_rank(split, lengths, padded=True).tolist() == [[5, 0], [5, 0]]


class Rows:
    """A dataset of which only the length is asked."""

    def __len__(self) -> int:
        return 8


def load(peers: Peers) -> tuple[RankLoad, Activities]:
    loader = CurriculumLoader(
        Rows(),
        lambda rows: rows,
        lengths=np.arange(1, 9),
        steps_per_epoch=1,
        accumulation=2,
        micro=2,
        peers=peers,
        cut="drawn",
        workers={"num_workers": 0},
    )
    ours = Activities(peers, lambda: 0)
    return RankLoad(peers, ours, loader), ours


def test_the_picture_names_the_slowest_and_the_fastest_rank_of_each_activity() -> None:
    def act(peers: Peers) -> list[Json]:
        ranks, ours = load(peers)
        stages = []
        for seconds in (1.0, 3.0):
            ranks.add_step(np.arange(8, dtype=np.int32))
            ours.add(SCORING, [0.5, 0.25][peers.rank])
            stages.append(ranks.close_stage(seconds * (1 + peers.rank)))
        return [*stages, ranks.total()]

    pictures = on_ranks(2, act)
    assert pictures[0] == pictures[1]
    assert not isinstance(pictures[0], Exception)
    first, second, total = (picture["ranks"] for picture in pictures[0])
    assert first["seconds"][TRAINING] == {"fastest": [0, 1.0], "slowest": [1, 2.0]}
    assert second["seconds"][SCORING] == {"fastest": [1, 0.25], "slowest": [0, 0.5]}
    assert total["seconds"] == {
        SCORING: {"fastest": [1, 0.5], "slowest": [0, 1.0]},
        TRAINING: {"fastest": [0, 4.0], "slowest": [1, 8.0]},
    }
    assert first["tokens"] == [14, 22]
    assert total["tokens"] == [28, 44]
    assert total["padding"] == [round(1 - 14 / 16, 4), round(1 - 22 / 24, 4)]
    assert ranks_line(total) == (
        "ranks, own work: scoring 0.5 s (rank 1) to 1.0 s (rank 0); training 4.0 s (rank 0) to 8.0 s (rank 1); "
        "padding 12%, 8%"
    )


def test_one_process_has_no_picture() -> None:
    ranks, _ = load(Peers())
    ranks.add_step(np.arange(8, dtype=np.int32))
    assert ranks.close_stage(1.0) == {} == ranks.total()
