"""One run at a time in an output_dir: two would write over each other's checkpoints and into one ledger.

A lock of the operating system (`flock`) on a file in the run's folder: it ends with the process that holds it, however
that ends, and the file may stay. Network folders of Linux since NFSv3 keep it between machines; where a file system
knows no locks at all the run says so and goes on.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path

from campus_tune.words.console import say
from campus_tune.words.errors import StorageError, TrainerError
from campus_tune.words.json_shapes import parse

FILE = ".lock"
UNKNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # how file systems say that they have no locks


class RunLock:
    """The right to write into a folder.

    Args:
        folder: of the run, made if it is not there.
        what: the setting that names it, for messages.
    """

    def __init__(self, folder: Path, what: str = "output_dir") -> None:
        self.path, self.what = folder / FILE, what
        self._descriptor: int | None = None
        _ALL.add(self)

    def take(self) -> None:
        """Have the folder for this process until `release`, or until it ends.

        Raises:
            TrainerError: another run has it, which is named.
            StorageError: the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"`{self.path.parent}` must be writable, got {error.strerror or error}. Choose another {self.what}, or "
                "mend the folder's rights."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            try:
                about = parse(os.pread(descriptor, 1000, 0).decode("utf-8"))
                holder = f"process {about['pid']} on {about['host']} has been training since {about['since']}"
            except (ValueError, KeyError, TypeError):
                holder = "another process is training"
            os.close(descriptor)
            if error.errno not in UNKNOWN:
                raise TrainerError(
                    f"`{self.what}` must be used by one run at a time, got {str(self.path.parent)!r}, in which "
                    f"{holder}. Choose another {self.what}, or wait for that run to end."
                ) from error
            say(
                f"warning: {self.path.parent} lies on a file system without locks ({error.strerror}): a second run "
                "that is started there meanwhile would not be noticed"
            )
            return
        os.ftruncate(descriptor, 0)
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next run in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_ALL: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked data loader worker that outlives the run must not keep its lock."""
    for lock in list(_ALL):
        lock.release()


os.register_at_fork(after_in_child=_let_go_in_child)
