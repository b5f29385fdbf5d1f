"""What a program in the sandbox sees of this machine, and the command lines that show it no more than that.

Read-only: the interpreter, its standard library, and the folders of shared libraries. Of these, installed packages,
Python's own tests, and what other languages have installed are shown as empty folders: they hold solutions.
Writable: one empty folder in memory, of limited size. Everything else (homes, projects, /etc, /proc, /sys, devices
but /dev/null) is not hidden but absent.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

FOLDER = "/sandbox"  # where a program works: private, empty, gone afterwards
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/nix/store")
# machine code of the standard library that hands out memory by its address, or a second interpreter
NATIVE = ("_ctypes*", "_test*", "_xx*", "_interp*")
PACKAGES = ("*-packages", "test", "*/test", "*/tests", "idlelib", "turtledemo", "pydoc_data", "ensurepip/_bundled")
OTHERS = ("node_modules", "R", "ruby", "jvm", "perl5", "julia", "go*", "ghc*", "rustlib", "erlang", "php*", "lua*")
NOBODY = "65534"


@dataclass(frozen=True)
class VisibleFiles:
    """The file system of the sandbox. All paths absolute and free of links.

    Args:
        python: the interpreter.
        binds: files and folders to show, read-only.
        links: (where, to).
        empty: folders to show as empty ones.
        blank: files to show as empty ones.
        folder: the working folder.
        folder_bytes: what fits into it.
        folder_files: how many files fit into it.
        devices: device files.
    """

    python: str
    binds: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    empty: tuple[str, ...]
    blank: tuple[str, ...]
    folder: str = FOLDER
    folder_bytes: int = 0
    folder_files: int = 0
    devices: tuple[str, ...] = ("/dev/null",)

    def shows(self, path: Path) -> bool:
        """Whether a path of this machine exists inside, be it as a folder on the way to something shown."""
        real = Path(os.path.realpath(path))
        ends = [Path(one) for one in (*self.binds, *self.devices)]
        return any(real == end or real in end.parents or end in real.parents for end in ends)


@cache
def python_view() -> VisibleFiles:
    """What the interpreter of this process needs to see, its virtual environment left out."""
    python = os.path.realpath("/proc/self/exe")  # sys.executable of a virtual environment is a link, or a copy
    prefix = os.path.realpath(sys.base_prefix)
    libraries = [f"{prefix}/lib", f"{prefix}/{sys.platlibdir}", *LIBRARIES]
    links = [(path, os.readlink(path)) for path in libraries if os.path.islink(path)]
    if prefix != sys.base_prefix:
        links.append((sys.base_prefix, prefix))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parts = [part for path in libraries for part in _needed(Path(os.path.realpath(path)), version)]
    real = dict.fromkeys([python, *(str(part) for part in parts if part.exists())])
    binds = [path for path in real if not any(path.startswith(f"{other}/") for other in real)]
    folders = [Path(path) for path in binds if os.path.isdir(path)]
    standard = [*folders, *(found for folder in folders for found in folder.glob("python*"))]
    patterns = [(folder, pattern) for folder in standard for pattern in PACKAGES]
    patterns += [(folder, pattern) for folder in folders for pattern in OTHERS]
    hidden = dict.fromkeys(str(found) for folder, pattern in patterns for found in _real(folder, pattern, Path.is_dir))
    empty = [path for path in hidden if not any(path.startswith(f"{other}/") for other in hidden)]
    native = [
        str(found)
        for folder in standard
        for pattern in NATIVE
        for found in _real(folder, f"lib-dynload/{pattern}.so", Path.is_file)
    ]
    return VisibleFiles(python, tuple(binds), tuple(links), tuple(empty), tuple(dict.fromkeys(native)))


def _needed(folder: Path, version: str) -> list[Path]:
    """The parts of a library folder that an interpreter needs: all, or on Debian's systems a few among much else."""
    libraries = [found for found in folder.glob("*-linux-*") if found.is_dir()]
    if not libraries:
        return [folder]
    own = [folder / version] if Path(os.path.realpath(os.__file__)).is_relative_to(folder / version) else []
    return [*libraries, *own, *_real(folder, "libpython*.so*", Path.is_file)]


def _real(folder: Path, pattern: str, kind: Callable[[Path], bool]) -> Iterator[Path]:
    """What is no link: a link is followed when something is put over it."""
    return (found for found in folder.glob(pattern) if kind(found) and not found.is_symlink())


def takes_any_user() -> bool:
    """Whether this process is root of the whole machine. Root of a rootless container has only some users to take."""
    if os.geteuid():
        return False
    rows = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    return any(int(first) <= 2**30 and int(first) + int(count) >= 2**31 for first, _, count in rows)


def interpreter(python: str) -> list[str]:
    """An interpreter that reads no environment, no user's or installed packages, and writes no cache."""
    return [python, "-I", "-S", "-B", "-X", "utf8"]


def bubblewrap(bwrap: str, view: VisibleFiles, *, as_root: bool, filter_file: int, command: list[str]) -> list[str]:
    """The command line for bubblewrap.

    Root of the machine makes no user namespace: in one it would still be root to the kernel, which limits no number of
    processes for root. The jail takes another user on instead. Root of a rootless container is an ordinary user.
    """
    words = [bwrap, "--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--hostname", "sandbox", "--cap-drop", "ALL"]
    if as_root:
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words += ["--unshare-user", "--uid", NOBODY, "--gid", NOBODY]
    for bind, paths in ("--ro-bind", view.binds), ("--dev-bind", view.devices):
        for path in paths:  # folders that bubblewrap makes unasked are open to their maker alone
            words += ["--perms", "0755", "--dir", os.path.dirname(path), bind, path, path]
    for where, to in view.links:
        words += ["--symlink", to, where]
    for path in view.blank:
        words += ["--ro-bind", "/dev/null", path]
    for path in view.empty:
        words += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
    words += ["--perms", "1777", "--size", str(view.folder_bytes), "--tmpfs", view.folder, "--remount-ro", "/"]
    return [*words, "--chdir", view.folder, "--seccomp", str(filter_file), *command]


def namespaces(view: VisibleFiles, *, filter_: bytes, command: list[str]) -> list[str]:
    """The command line for our own launcher."""
    spec = asdict(view) | {"filter": filter_.hex(), "as_root": takes_any_user()}
    launcher = str(Path(__file__).with_name("namespaces.py"))
    return [*interpreter(view.python), launcher, marshal.dumps(spec).hex(), str(os.getpid()), *command]
