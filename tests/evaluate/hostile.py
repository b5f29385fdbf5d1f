"""Programs that attack. Each would pass its check if its attack got through; `why` is what must stop it instead.

CHECK is what the tests of a benchmark look like. `solved` programs answer it rightly, after an attack that must not
succeed; `wrong` ones answer it wrongly and try to pass all the same. Words in capitals are put in by the tests: a
sentinel file and its folder, the port of a server that nobody may reach, a name of a local socket.
"""

from __future__ import annotations

from dataclasses import dataclass

CHECK = "assert answer() == 42\nassert answer() == 42"


@dataclass(frozen=True)
class Hostile:
    source: str
    why: str  # a regular expression over "outcome: the end of stderr"
    checks: str = CHECK


def solved(why: str, attack: str) -> Hostile:
    return Hostile(f"{attack.strip()}\ndef answer():\n    return 42\n", why)


def wrong(why: str, attack: str) -> Hostile:
    return Hostile(f"def answer():\n    return 41\n{attack.strip()}\n", why)


REFUSED = "PermissionError"
ABSENT = "FileNotFoundError"

NETWORK = {
    "connects to a server of this machine": solved(REFUSED, """
import socket
socket.create_connection(("127.0.0.1", PORT), 1).send(b"hello")"""),
    "connects over IPv6": solved(REFUSED, """
import socket
socket.socket(socket.AF_INET6, socket.SOCK_STREAM).connect(("::1", PORT))"""),
    "sends a datagram": solved(REFUSED, """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", PORT))"""),
    "asks for a name": solved("gaierror|PermissionError", """
import socket
socket.getaddrinfo("example.com", 80)"""),
    "fetches a page": solved("URLError|PermissionError", """
import urllib.request
urllib.request.urlopen("http://127.0.0.1:PORT/", timeout=1).read()"""),
    "opens a raw socket": solved(REFUSED, """
import socket
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)"""),
    "opens a packet socket": solved(REFUSED, """
import socket
socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"""),
    "talks to the kernel's network settings": solved(REFUSED, """
import socket
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)"""),
    "talks to the host of a virtual machine": solved(REFUSED, """
import socket
socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 52))"""),
    "finds a local socket by its abstract name": solved("ConnectionRefusedError", """
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("\\0ABSTRACT")"""),
    "finds a local socket by its path": solved(ABSENT, """
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("FOLDER/socket")"""),
    "looks for an open connection among its files": solved("OSError", """
import socket
for n in range(1024):
    try:
        socket.socket(fileno=n).send(b"hello")
        break
    except OSError:
        pass
else:
    raise OSError("no connection")"""),
    "uses asyncio": solved(REFUSED, """
import asyncio
async def main():
    await asyncio.open_connection("127.0.0.1", PORT)
asyncio.run(main())"""),
}  # fmt: skip

PROCESSES = {
    "forks for ever": solved("PermissionError|BlockingIOError", """
import os
while True:
    os.fork()"""),
    "starts threads for ever": solved("RuntimeError: can't start new thread", """
import threading, time
threading.stack_size(32768)
while True:
    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"""),
    "starts a program": solved("PermissionError", """
import subprocess
subprocess.run(["/bin/true"], check=True)"""),
    "asks a shell": solved("OSError", """
import os
if os.system("true") != 0:
    raise OSError("no shell")"""),
    "spawns": solved("PermissionError", """
import os, sys
os.posix_spawn(sys.executable, [sys.executable, "-c", "1"], {})"""),
    "uses multiprocessing": solved("PermissionError|FileNotFoundError", """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=print)
process.start()
process.join()"""),
    "leaves a daemon behind": solved(REFUSED, """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)"""),
    "becomes a shell": solved(ABSENT, """
import os
os.execv("/bin/sh", ["sh", "-c", "true"])"""),
    "becomes another interpreter that ends well": wrong("ended early", """
import os, sys
os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(0)"])"""),
    "runs a set-user-ID program": solved(ABSENT, """
import os
os.execv("/usr/bin/su", ["su", "-c", "true"])"""),
    "kills its parent": wrong("failed: .*AssertionError|PermissionError", """
import os, signal, time
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(0.1)"""),
    "kills its group": wrong("killed|timeout", """
import os, signal
os.killpg(0, signal.SIGKILL)"""),
    "kills everything": wrong("failed: .*AssertionError|PermissionError", """
import os, signal
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass"""),
    "kills a process by its number outside": solved("ProcessLookupError", """
import os, signal
os.kill(VICTIM, signal.SIGKILL)"""),
    "becomes root": solved("PermissionError|OSError", """
import os
os.setuid(0)"""),
    "takes every user's place": solved("PermissionError|OSError", """
import os
os.setresuid(0, 0, 0)"""),
}  # fmt: skip

GREED = {
    "asks for all memory at once": solved("memory: .*MemoryError", "block = bytearray(2**40)"),
    "fills the memory bit by bit": solved("memory: .*MemoryError", """
blocks = []
while True:
    blocks.append(bytearray(2**20))"""),
    "maps memory": solved("OSError|memory", """
import mmap
maps = [mmap.mmap(-1, 2**28) for _ in range(100)]"""),
    "unpacks a bomb": solved("memory: .*MemoryError|timeout", """
import zlib
packed = zlib.compress(bytes(2**26), 9)
kept = []
while True:
    kept.append(zlib.decompress(packed))"""),
    "doubles a string": solved("memory: .*MemoryError", """
text = "x"
while True:
    text += text"""),
    "lifts its limits": solved("ValueError", """
import resource
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"""),
    "fills the disk with one file": solved("OSError", """
with open("big", "wb") as file:
    while True:
        file.write(bytes(2**20))"""),
    "makes a file of a terabyte without writing it": solved("OSError", """
import os
os.truncate(os.open("big", os.O_CREAT | os.O_RDWR), 2**40)"""),
    "fills the disk with files": solved("OSError", """
n = 0
while True:
    n += 1
    with open(f"big{n}", "wb") as file:
        file.write(bytes(2**20))"""),
    "makes files for ever": solved("OSError|timeout", """
n = 0
while True:
    n += 1
    open(str(n), "w").close()"""),
    "opens files for ever": solved("OSError: .*Too many open files", """
files = []
while True:
    files.append(open("/dev/null"))"""),
    "loops for ever": solved("timeout", "while True: pass"),
    "sleeps for ever": solved("timeout", "import time\ntime.sleep(10**6)"),
    "loops deaf to every signal": solved("timeout", """
import signal
for n in range(1, 65):
    try:
        signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True: pass"""),
    "calculates for ever inside of C": solved("timeout", "huge = 9 ** 9 ** 9"),
    "matches for ever inside of C": solved("timeout", 'import re\nre.match("(a+)+$", "a" * 64 + "b")'),
    "waits for input": solved("EOFError", "input()"),
    "floods stdout": solved("timeout", """
import os
while True:
    os.write(1, bytes(2**16)); print("x" * 10**5)"""),
    "floods stderr": solved("OSError|failed|ended early", """
import sys
while True:
    sys.stderr.write("x" * 10**5)"""),
    "nests the source too deeply": Hostile("(" * 10**5 + ")" * 10**5, "SyntaxError|MemoryError|RecursionError"),
    "calls itself for ever": solved("RecursionError", "def again():\n    again()\nagain()"),
    "overflows the stack of C": solved("killed|RecursionError|memory", """
import sys
sys.setrecursionlimit(10**9)
class Deep:
    def __getattr__(self, name): return getattr(self, name + "x")
    def __repr__(self): return repr(self)
    def __eq__(self, other): return [self] == [other]
repr(Deep()), Deep() == Deep()"""),
    "aborts": solved("killed", "import os\nos.abort()"),
    "crashes": solved("killed", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"),
}  # fmt: skip

FILES = {
    "reads a file of the user": solved(ABSENT, 'open("FOLDER/secret").read()'),
    "lists the home folder": solved("FileNotFoundError|IndexError", """
import os
[name for name in os.listdir("HOME") if name not in ("PYTHON_LIES_IN",)][0]"""),
    "reads keys and tokens": solved("IndexError", """
import glob
found = [one for place in ("/root", "/home/*", "HOME") for name in (".ssh/*", ".cache/huggingface/token", ".netrc",
         ".bashrc", ".gitconfig") for one in glob.glob(place + "/" + name)]
found[0]"""),
    "reads passwd": solved(ABSENT, 'open("/etc/passwd").read()'),
    "reads shadow": solved(ABSENT, 'open("/etc/shadow").read()'),
    "reads the project": solved(ABSENT, 'open("PROJECT/pyproject.toml").read()'),
    "reads the environment": solved("KeyError", 'import os\nos.environ["HF_TOKEN"]'),
    "reads the environment through /proc": solved(ABSENT, 'open("/proc/self/environ").read()'),
    "reads the environment of its parent": solved(ABSENT, """
import os
open(f"/proc/{os.getppid()}/environ").read()"""),
    "reads the memory of its parent": solved(ABSENT, """
import os
open(f"/proc/{os.getppid()}/mem", "rb").read(1)"""),
    "reads its command line and maps": solved(ABSENT, 'open("/proc/self/maps").read(); open("/proc/1/cmdline").read()'),
    "leaves through the root of its parent": solved(ABSENT, 'open("/proc/1/root/etc/passwd").read()'),
    "asks the kernel about the machine": solved(ABSENT, 'open("/sys/kernel/mm/ksm/run").read()'),
    "reads devices": solved(ABSENT, 'open("/dev/mem", "rb"); open("/dev/vda", "rb")'),
    "finds its terminal": solved("FileNotFoundError|OSError", 'open("/dev/tty", "w").write("x")'),
    "goes up and up": solved(ABSENT, 'open("../" * 50 + "FOLDER/secret").read()'),
    "follows a symbolic link": solved(ABSENT, """
import os
os.symlink("FOLDER/secret", "link")
open("link").read()"""),
    "makes a hard link": solved("FileNotFoundError|OSError", 'import os\nos.link("FOLDER/secret", "link")'),
    "links a library and writes to it": solved("OSError", """
import os, json
os.link(json.__file__, "link")"""),
    "leaves its root folder": solved("PermissionError", """
import os
os.chroot(".")"""),
    "reads through the files left open": wrong("failed|timeout", """
import os
for n in range(1024):
    try:
        os.lseek(n, 0, 0)
    except OSError:
        pass
    try:
        if b"token" in os.read(n, 10**6):
            def answer(): return 42
    except OSError:
        pass"""),
    "overwrites a file of the user": solved(ABSENT, 'open("FOLDER/secret", "w").write("gone")'),
    "writes where everybody may": solved(ABSENT, 'open("/tmp/left_behind", "w")'),
    "writes to the root folder": solved("OSError", 'open("/left_behind", "w")'),
    "writes to shared memory": solved(ABSENT, 'open("/dev/shm/left_behind", "w")'),
    "changes the standard library": solved("OSError|PermissionError", """
import json
open(json.__file__, "a").write("import os")"""),
    "uncovers a hidden library": solved("OSError", """
import os, resource
path = resource.__file__.replace("resource", "_ctypes")
os.remove(path)"""),
    "makes a device": solved("PermissionError|OSError", """
import os, stat
os.mknod("disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))"""),
    "imports campus_tune": solved("ModuleNotFoundError", 'import sys\nsys.path.append("PROJECT")\nimport campus_tune'),
    "imports an installed package": solved("ModuleNotFoundError", """
import sys
sys.path += ["PACKAGES", sys.prefix + "/lib/python3.11/site-packages", "/usr/lib/python3/dist-packages"]
try:
    import numpy
except ModuleNotFoundError:
    import pip"""),
}  # fmt: skip

HOSTILE = {
    f"{group}: {name}": program
    for group, programs in (("network", NETWORK), ("processes", PROCESSES), ("greed", GREED), ("files", FILES))
    for name, program in programs.items()
}  # fmt: skip

# what machine code could do that Python cannot say; run without the jail, to see what the kernel refuses
NATIVE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *[ctypes.c_long(one) for one in arguments]) == -1 and ctypes.get_errno() in (1, 38)
wanted = {
    "new user namespace": (272, 0x10000000), "new mount namespace": (272, 0x20000), "trace": (101, 0, 0, 0, 0),
    "trace by attaching": (101, 16, 1, 0, 0), "memory of the first process": (310, 1, 0, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0), "unmount": (166, 0, 2), "root folder": (161, 0), "new root": (155, 0, 0),
    "program for the kernel": (321, 0, 0, 0), "keys": (250, 0, -3, 0), "io_uring": (425, 1, 0), "fork": (57,),
    "vfork": (58,), "clone": (56, 17, 0, 0, 0, 0), "clone into a namespace": (56, 0x10000011, 0, 0, 0, 0),
    "clone3": (435, 0, 0), "memory file": (319, 0, 0), "shared memory": (29, 0, 4096, 0o1666),
    "new personality": (135, 0x0400000), "packets": (41, 17, 3, 0), "virtual machine": (41, 40, 1, 0),
    "internet": (41, 2, 1, 0), "performance events": (298, 0, 0, 0, 0, 0), "page faults": (323, 0),
    "module": (313, 0, 0, 0), "file by handle": (304, 0, 0, 0), "namespace of another": (308, 0, 0),
    "file of another process": (438, 0, 0, 0), "the other numbers of x32": (0x40000000 + 39,),
}
print([name for name, call in wanted.items() if not refused(*call)], len(wanted))
"""
