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
    "reads through the files left open": wrong("failed", """
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

LOOK_FOR_TOKEN = """
import os, re
def write_everywhere(texts):
    for n in range(64):
        for text in texts:
            try: os.write(n, text.encode())
            except OSError: pass
    os._exit(0)
def tokens_in(thing, seen, depth=0):
    if id(thing) in seen or depth > 8: return
    seen.add(id(thing))
    if isinstance(thing, (bytes, bytearray)): thing = bytes(thing).decode("latin-1")
    if isinstance(thing, str):
        yield from re.findall(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", thing)
        return
    parts = []
    if isinstance(thing, dict): parts = [*thing.keys(), *thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)): parts = list(thing)
    elif hasattr(thing, "f_back"): parts = [thing.f_back, thing.f_globals, thing.f_locals, thing.f_code]
    elif hasattr(thing, "co_consts"): parts = [thing.co_consts, thing.co_names]
    elif hasattr(thing, "__dict__"): parts = [thing.__dict__, getattr(thing, "__closure__", ()),
                                              getattr(thing, "__code__", ()), getattr(thing, "__defaults__", ())]
    elif hasattr(thing, "cell_contents"): parts = [thing.cell_contents]
    elif hasattr(thing, "__reduce_ex__"):
        try: parts = [thing.__reduce_ex__(2)]
        except Exception: pass
    for part in parts:
        yield from tokens_in(part, seen, depth + 1)
"""

FORGERY = {
    "ends at once, well": wrong("ended early", "import os\nos._exit(0)"),
    "exits": wrong("ended early", "import sys\nsys.exit(0)"),
    "exits with a message": wrong("failed: passed", 'raise SystemExit("passed")'),
    "quits": wrong("NameError|ended early", "quit()"),
    "exits in the middle of the checks": Hostile("def answer():\n    raise SystemExit(0)", "ended early"),
    "ends in the middle of the checks": Hostile("import os\ndef answer():\n    os._exit(0)", "ended early"),
    "ends well at exit": wrong("ended early", """
import atexit, os
atexit.register(os._exit, 0)"""),
    "ends well from another thread": wrong("ended early|failed", """
import threading, os, time
threading.Thread(target=lambda: (time.sleep(0.05), os._exit(0)), daemon=True).start()
time.sleep(1)"""),
    "ends well at the alarm": wrong("ended early", """
import signal, os
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.02)
while True: pass"""),
    "says that it passed": wrong("failed", """
import sys
print("passed"); print("passed", file=sys.stderr); sys.stdout.flush()"""),
    "writes to all files": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
write_everywhere(["passed", "0" * 64, "True", '{"passed": true}'])"""),
    "closes all files": wrong("ended early|failed", "import os\nos.closerange(0, 1024)"),
    "puts other files in place of all": wrong("ended early|failed", """
import os
r, w = os.pipe()
for n in range(64):
    if n not in (r, w): os.dup2(w, n)"""),
    "replaces AssertionError": wrong("failed", """
import builtins
builtins.AssertionError = type("Fine", (BaseException,), {"__init__": lambda self, *a: None})
AssertionError = None"""),
    "replaces the hooks for exceptions": wrong("failed|ended early", """
import sys, os, threading
sys.excepthook = lambda *_: os._exit(0)
sys.unraisablehook = threading.excepthook = sys.excepthook
sys.stderr = None"""),
    "replaces exec, compile and the end": wrong("failed", """
import builtins, os
for name in "exec", "eval", "compile", "print", "__import__", "__build_class__", "isinstance":
    setattr(builtins, name, lambda *a, **k: None)
os.write = lambda *a: 64
os._exit = lambda *a: None"""),
    "replaces the builtins that the checks use": Hostile(
        "def answer():\n    return 41\nimport builtins\nbuiltins.abs = lambda x: 0\nbuiltins.all = lambda x: True\n",
        "failed: .*AssertionError", "assert abs(answer() - 42) < 1e-6 and all([answer() == 42])"),
    "replaces all builtins of the checks": Hostile(
        "def answer():\n    return 41\n__builtins__ = {'abs': lambda x: 0}\n",
        "failed: .*AssertionError", "assert abs(answer() - 42) < 1e-6"),
    "swallows the first check with an open line": Hostile(
        "def answer():\n    return 41\nif False:\\", "SyntaxError", "assert answer() == 42"),
    "swallows the checks with an open string": Hostile(
        'def answer():\n    return 41\n"""', "SyntaxError", CHECK + '\n"""'),
    "swallows the checks with an open bracket": Hostile(
        "def answer():\n    return 41\nanswer(", "SyntaxError", "answer() == 42)"),
    "decorates the checks away": Hostile(
        "def answer():\n    return 41\n@lambda f: lambda *a: None", "SyntaxError",
        "def check(f):\n    assert f() == 42\ncheck(answer)"),
    "jumps over the checks": Hostile("""
def answer():
    return 41
import sys
def jump(frame, event, arg):
    if event == "line" and frame.f_code.co_filename == "<checks>" and frame.f_lineno == 1:
        frame.f_lineno = 2
    return jump
sys.settrace(jump)
""", REFUSED, "assert answer() == 42\nanswer()"),
    "watches from a profiler": wrong(REFUSED, "import sys\nsys.setprofile(lambda *a: None)"),
    "looks for the token in its frames": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import sys
write_everywhere(set(tokens_in([sys._getframe(), sys.modules], set())))"""),
    "looks for the token behind a traceback": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
try: 1 / 0
except ZeroDivisionError as error:
    write_everywhere(set(tokens_in([error.__traceback__.tb_frame, error.__context__], set())))"""),
    "looks for the token among all objects": wrong(REFUSED, LOOK_FOR_TOKEN + """
import gc
write_everywhere(set(tokens_in(gc.get_objects(), set())))"""),
    "looks for the token with a new copy of gc": wrong(REFUSED, LOOK_FOR_TOKEN + """
import importlib.machinery, importlib.util, _imp, gc
gc.unfreeze()
spec = importlib.machinery.BuiltinImporter.find_spec("gc")
fresh = importlib.util.module_from_spec(spec)
_imp.exec_builtin(fresh)
write_everywhere(set(tokens_in(fresh.get_objects(), set())))"""),
    "looks for the token from its frame down": wrong(REFUSED, LOOK_FOR_TOKEN + """
import gc, sys
frame = sys._getframe()
while frame.f_back: frame = frame.f_back
write_everywhere(set(tokens_in(gc.get_referents(frame), set())))"""),
    "looks for the token in what is never freed": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import gc
gc.set_debug(gc.DEBUG_SAVEALL)
gc.collect()
write_everywhere(set(tokens_in(gc.garbage, set())))"""),
    "looks for the token in other threads": wrong(REFUSED, LOOK_FOR_TOKEN + """
import sys
write_everywhere(set(tokens_in(list(sys._current_frames().values()), set())))"""),
    "looks for the token in memory": wrong("ImportError|ModuleNotFoundError", """
import ctypes
ctypes.string_at(id(answer), 64)"""),
    "looks for the token in memory, by another way": wrong("ImportError|OSError", """
import resource, importlib.machinery, importlib.util
path = resource.__file__.replace("resource", "_ctypes")
spec = importlib.util.spec_from_file_location("_ctypes", path)
importlib.util.module_from_spec(spec)"""),
    "looks for the token in memory, through test code": wrong("ImportError|ModuleNotFoundError", """
import _testcapi, _testinternalcapi"""),
    "looks for the token in its own memory file": wrong(ABSENT, 'open("/proc/self/mem", "rb")'),
    "looks for the token in the request": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
for n in range(64):
    try: os.lseek(n, 0, 0)
    except OSError: pass
    try: write_everywhere(set(tokens_in(os.read(n, 10**6), set())))
    except OSError: pass"""),
    "starts a second interpreter": wrong("ImportError|ModuleNotFoundError", """
try:
    import _xxsubinterpreters
except ModuleNotFoundError:
    import _interpreters"""),
    "loads machine code of its own": wrong("ImportError", """
import importlib.machinery, importlib.util, shutil, resource
shutil.copy(resource.__file__, "own.so")
spec = importlib.util.spec_from_file_location("own", "/sandbox/own.so")
importlib.util.module_from_spec(spec)"""),
    "loads machine code of its own by a link": wrong("ImportError", """
import importlib.machinery, importlib.util, shutil, resource
shutil.copy(resource.__file__, "own.so")
spec = importlib.util.spec_from_file_location("own", "./own.so")
importlib.util.module_from_spec(spec)"""),
    "loads machine code of its own from a path that lies": wrong("machine code of the program's own", """
import _imp, importlib.machinery, shutil, resource
shutil.copy(resource.__file__, "own.so")
class Lie(str):
    def __len__(self): return 0
    def __getitem__(self, _): return "/"
    def __contains__(self, _): return False
_imp.create_dynamic(importlib.machinery.ModuleSpec("own", None, origin=Lie("/sandbox/own.so")))"""),
    "asks for memory by a name that lies": wrong("_ctypes is not available", """
import _imp, importlib.machinery, resource
class Lie(str):
    __hash__ = lambda self: 0
    __eq__ = lambda self, other: False
path = resource.__file__.replace("resource", "_ctypes")
_imp.create_dynamic(importlib.machinery.ModuleSpec(Lie("_ctypes"), None, origin=path))"""),
    "does the judge's work once more": wrong("JSONDecodeError|ended early", """
import __main__
__main__.deque(__main__.starmap(__main__.call, __main__._steps()), maxlen=0)"""),
    "empties the judge": wrong("failed: .*AssertionError", """
import __main__, sys
vars(__main__).clear()
sys.modules.clear()"""),
    "takes the audit hook's names away": wrong(REFUSED, """
import __main__, builtins, gc
__main__.refuse = lambda *a: None
vars(__main__).clear()
try:
    gc.get_objects()
except BaseException:
    raise PermissionError"""),
    "stops the checks from an audit hook": wrong("failed|ended early", """
import sys, os
def hook(event, args):
    if event == "exec": os._exit(0)
sys.addaudithook(hook)"""),
    "lets signals write for it": wrong("ended early|failed", """
import signal, os, socket
for n in range(3, 10):
    try:
        os.set_blocking(n, False); signal.set_wakeup_fd(n, warn_on_full_buffer=False)
    except (OSError, ValueError): pass
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)"""),
    "replaces the judge's module by an agreeable one": wrong("failed: .*AssertionError", """
import sys, types
for name in list(sys.modules): sys.modules[name] = types.SimpleNamespace(__getattr__=lambda *a: True)"""),
}  # fmt: skip

HOSTILE = {
    f"{group}: {name}": program
    for group, programs in (("network", NETWORK), ("processes", PROCESSES), ("greed", GREED), ("files", FILES),
                            ("forgery", FORGERY))
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
