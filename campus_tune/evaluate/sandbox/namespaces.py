"""A sandbox of our own out of Linux namespaces, for a machine without bubblewrap. Run as a script, never imported.

In new mount, process, network, IPC and host-name namespaces, and in a new user namespace unless run by root itself, it
builds an empty root folder, binds into it, read-only, what the Python of the program needs, turns to that root,
forgets the old one, gives up every privilege, and starts the command. It is what bubblewrap does, in the same
sequence; where bubblewrap is, it is used.

    python -I -S -B namespaces.py SPEC PARENT COMMAND…

PARENT is the process that it does not outlive. SPEC is a dictionary as Python's own marshal in hexadecimal (to import
json takes longer than all else here): `binds` (paths, read-only), `links` ([where, to]), `empty` (folders to hide),
`blank` (files to hide), `devices`, `folder` (the private working folder), `folder_bytes`, `folder_files`, `filter`
(seccomp, in hexadecimal), `as_root` (run by root of the whole machine, not of a container).
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import signal
import sys

TYPE_CHECKING = False  # importing typing would take a tenth of the time that a program does
if TYPE_CHECKING:
    from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAP_SETGID, CAP_SETUID = 6, 7
NOBODY = 65534
OLD = "/.old"

libc = ctypes.CDLL(None, use_errno=True)


def ask(call: str, *arguments: object) -> None:
    """Call libc, and say what failed.

    Raises:
        OSError: the call gave back -1.
    """
    if getattr(libc, call)(*[one.encode() if isinstance(one, str) else one for one in arguments]) == -1:
        code = ctypes.get_errno()
        what = ", ".join(str(one) for one in arguments if isinstance(one, str | int))
        raise OSError(code, f"{call}({what}): {os.strerror(code)}")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("add", "remove", "propagation", "user_namespace")]


def set_mount(path: str, add: int, *, below: bool) -> None:
    """Add attributes to the mount at a path and, if asked, to all below it."""
    attributes = _MountAttributes(add=add)
    flags = AT_RECURSIVE if below else 0
    ask("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, path, flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def enter_namespaces(*, as_root: bool) -> None:
    """New namespaces; as root without a user namespace, because only there another user can be taken on inside."""
    user, group = os.geteuid(), os.getegid()
    users = 0 if as_root else CLONE_NEWUSER
    ask("unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | users)
    if not as_root:
        maps = {"setgroups": "deny", "uid_map": f"{NOBODY} {user} 1", "gid_map": f"{NOBODY} {group} 1"}
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    ask("sethostname", "sandbox", len("sandbox"))


def build_root(spec: dict[str, Any]) -> None:
    """Make the new root folder and turn to it. What was there before is out of reach afterwards."""
    ask("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    ask("mount", "tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"/tmp{OLD}")
    ask("syscall", SYS_PIVOT_ROOT[os.uname().machine], "/tmp", f"/tmp{OLD}")
    os.chdir("/")
    for path in spec["binds"]:
        _bind(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    for path in spec["devices"]:
        _bind(path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    for where, to in spec["links"]:
        os.makedirs(os.path.dirname(where), exist_ok=True)
        os.symlink(to, where)
    for path in spec["blank"]:
        ask("mount", "/dev/null", path, None, MS_BIND, None)
    for path in spec["empty"]:
        ask("mount", "tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=555")
    os.makedirs(spec["folder"], exist_ok=True)
    size = f"size={spec['folder_bytes']},nr_inodes={spec['folder_files']},mode=1777"
    ask("mount", "tmpfs", spec["folder"], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
    ask("umount2", OLD, MNT_DETACH)
    os.rmdir(OLD)
    set_mount("/", MOUNT_ATTR_RDONLY, below=False)
    os.chdir(spec["folder"])


def _bind(path: str, add: int) -> None:
    source = OLD + path
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    ask("mount", source, path, None, MS_BIND | MS_REC, None)
    set_mount(path, add, below=True)


def give_up_privileges(call_filter: bytes) -> None:
    """No capability can come back, no set-user-ID file counts, the system calls are filtered: until the process ends.

    Root keeps what it takes to become another user, which is the first thing it does after this.
    """
    keep = {CAP_SETUID, CAP_SETGID} if os.geteuid() == 0 else set()
    for capability in set(range(64)) - keep:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # of 64 possible ones the kernel knows some 40
    ask("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    array = ctypes.create_string_buffer(call_filter, len(call_filter))

    class CallFilter(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    program = CallFilter(len(call_filter) // 8, ctypes.addressof(array))
    ask("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def wait_for(child: int) -> NoReturn:
    """End as the child ended: with its exit code, or 128 + signal as a shell says it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def die_with_parent(parent: int) -> None:
    """When the parent goes, so does this process, however the parent went."""
    ask("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(spec: dict[str, Any], command: list[str], parent: int) -> NoReturn:
    """Build the sandbox, and run a command in it as its second process.

    The first one only waits; when it ends, the kernel ends all others. As first process the command itself would be
    deaf to most signals.
    """
    die_with_parent(parent)
    enter_namespaces(as_root=spec["as_root"])
    build_root(spec)
    alive, held = os.pipe()
    if first := os.fork():
        wait_for(first)
    os.close(held)
    ask("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([alive], [], [], 0)[0]:  # only its end can be read: the parent was gone before we asked
        os._exit(1)
    ask("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    if second := os.fork():
        wait_for(second)
    give_up_privileges(bytes.fromhex(spec["filter"]))
    os.execve(command[0], command, {})


if __name__ == "__main__":
    main(marshal.loads(bytes.fromhex(sys.argv[1])), sys.argv[3:], int(sys.argv[2]))
