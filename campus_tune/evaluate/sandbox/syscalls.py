"""The system calls that model-written code does without, as a seccomp filter: what the kernel itself refuses.

Namespaces hide what must not be seen. The filter takes away what they leave: new processes (so nothing outlives a
program, and one memory limit covers all of it), every socket but local ones (AF_VSOCK reaches the host of a virtual
machine through any network namespace), other processes' memory, mounts, new namespaces, shared memory that no limit
counts, and the parts of the kernel in which most holes have been found. All else is allowed: a Python program under
it runs like anywhere. evaluate's own metric forbids processes too, by setting os.fork and its kin to None.
"""

from __future__ import annotations

import errno
import platform
import struct

ALLOW, KILL = 0x7FFF0000, 0x80000000
ERRNO = 0x00050000
LOAD, EQUAL, AT_LEAST, HAS_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of classic BPF
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # where struct seccomp_data holds them
CLONE_THREAD, AF_UNIX = 0x10000, 1
X32 = 0x40000000  # a second set of numbers for the same calls on x86_64

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# the same number on every architecture
NEW_CALLS = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
OLD_CALLS = {
    "x86_64": {
        "fork": 57, "vfork": 58, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "bpf": 321,
        "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250, "syslog": 103,
        "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "memfd_create": 319, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "personality": 135,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "swapon": 167, "reboot": 169, "quotactl": 179, "acct": 163,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219, "syslog": 116,
        "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "memfd_create": 279, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180, "personality": 92,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "swapon": 224, "reboot": 142, "quotactl": 60, "acct": 89,
    },
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
SOCKET = {"x86_64": 41, "aarch64": 198}


def call_filter(machine: str | None = None) -> bytes:
    """The filter as the kernel takes it: an array of struct sock_filter.

    Args:
        machine: architecture, as `uname -m` says it; this machine's own if not given.

    Raises:
        KeyError: an architecture whose call numbers are not known here.

    >>> len(call_filter("x86_64")) % 8  # eight bytes an instruction
    0
    """
    machine = machine or platform.machine()
    refuse = ERRNO | errno.EPERM
    filter_ = [
        _do(LOAD, ARCHITECTURE),
        _do(EQUAL, AUDIT_ARCHITECTURE[machine], 1, 0),
        _do(RETURN, KILL),
        _do(LOAD, NUMBER),
        _do(AT_LEAST, X32, 0, 1),
        _do(RETURN, refuse),
    ]
    for number in (*OLD_CALLS[machine].values(), *NEW_CALLS.values()):
        filter_ += [_do(EQUAL, number, 0, 1), _do(RETURN, refuse)]
    # its flags lie behind a pointer, which no filter can follow; told that it is missing, libc takes clone
    filter_ += [_do(EQUAL, CLONE3, 0, 1), _do(RETURN, ERRNO | errno.ENOSYS)]
    for number, test, value in ((CLONE[machine], HAS_BIT, CLONE_THREAD), (SOCKET[machine], EQUAL, AF_UNIX)):
        filter_ += [
            _do(EQUAL, number, 0, 4),
            _do(LOAD, ARGUMENT),
            _do(test, value, 1, 0),
            _do(RETURN, refuse),
            _do(RETURN, ALLOW),
        ]
    return b"".join([*filter_, _do(RETURN, ALLOW)])


def _do(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the last two say how many to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
