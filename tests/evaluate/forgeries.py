"""Programs that answer wrongly and want to pass all the same, in every way we know to lie, hunt or speak out of turn.

Each is a wrong program by its checks, whatever `why` says about how it is found out. The program owns its process: some
take our own modules there and speak the language of the pipes, better or worse than we do.
"""

from __future__ import annotations

from tests.evaluate.hostile import ABSENT, CHECK, REFUSED, Hostile, wrong

ANY = "failed|ended early|killed|timeout|memory"
WRONG = "failed: .*AssertionError"
NO_VALUE = "which is not a value"

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
    "ends well at exit": wrong(f"{WRONG}|ended early", """
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
    "replaces exec, compile and the end": wrong("failed|timeout", """
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
""", WRONG, "assert answer() == 42\nanswer()"),
    "watches from a profiler": wrong(WRONG, "import sys\nsys.setprofile(lambda *a: None)"),
    "looks for the token in its frames": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import sys
write_everywhere(set(tokens_in([sys._getframe(), sys.modules], set())))"""),
    "looks for the token behind a traceback": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
try: 1 / 0
except ZeroDivisionError as error:
    write_everywhere(set(tokens_in([error.__traceback__.tb_frame, error.__context__], set())))"""),
    "looks for the token among all objects": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import gc
write_everywhere(set(tokens_in(gc.get_objects(), set())))"""),
    "looks for the token with a new copy of gc": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import importlib.machinery, importlib.util, _imp, gc
gc.unfreeze()
spec = importlib.machinery.BuiltinImporter.find_spec("gc")
fresh = importlib.util.module_from_spec(spec)
_imp.exec_builtin(fresh)
write_everywhere(set(tokens_in(fresh.get_objects(), set())))"""),
    "looks for the token from its frame down": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import gc, sys
frame = sys._getframe()
while frame.f_back: frame = frame.f_back
write_everywhere(set(tokens_in(gc.get_referents(frame), set())))"""),
    "looks for the token in what is never freed": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
import gc
gc.set_debug(gc.DEBUG_SAVEALL)
gc.collect()
write_everywhere(set(tokens_in(gc.garbage, set())))"""),
    "looks for the token in other threads": wrong("ended early|failed|killed", LOOK_FOR_TOKEN + """
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
    "loads machine code of its own from a path that lies": wrong("ImportError", """
import _imp, importlib.machinery, shutil, resource
shutil.copy(resource.__file__, "own.so")
class Lie(str):
    def __len__(self): return 0
    def __getitem__(self, _): return "/"
    def __contains__(self, _): return False
_imp.create_dynamic(importlib.machinery.ModuleSpec("own", None, origin=Lie("/sandbox/own.so")))"""),
    "asks for memory by a name that lies": wrong("ImportError", """
import _imp, importlib.machinery, resource
class Lie(str):
    __hash__ = lambda self: 0
    __eq__ = lambda self, other: False
path = resource.__file__.replace("resource", "_ctypes")
_imp.create_dynamic(importlib.machinery.ModuleSpec(Lie("_ctypes"), None, origin=path))"""),
    "empties the judge": wrong("failed: .*AssertionError", """
import __main__, sys
vars(__main__).clear()
sys.modules.clear()"""),
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

# what an attack has at hand: our modules, the pipes, and the nonce of the question that ran it
SPEAK = """
import fcntl, os, stat, struct, sys, threading, time
from types import SimpleNamespace as Space
wire = sys.modules["campus_tune.evaluate.sandbox.wire"]
judged = sys.modules["campus_tune.evaluate.sandbox.judged"]
pipes = []
for n in range(64):
    try:
        if stat.S_ISFIFO(os.fstat(n).st_mode): pipes.append(n)
    except OSError: pass
asks = [n for n in pipes if fcntl.fcntl(n, fcntl.F_GETFL) & 3 == os.O_RDONLY][0]
tells = [n for n in pipes if fcntl.fcntl(n, fcntl.F_GETFL) & 3 == os.O_WRONLY][0]
frame = sys._getframe()
while "nonce" not in frame.f_locals: frame = frame.f_back
nonce = frame.f_locals["nonce"]
def say(value, nonce=nonce): wire.send(tells, nonce + wire.Writer().bytes_of(value))
def ran(names): say(("value", names, ()))
def number(value): return value.number, value.what
def ran_well():
    names = {"answer": Space(number=0, what="function")}
    wire.send(tells, nonce + wire.Writer(number=number).bytes_of(("value", names, ())))
def asked():
    question = wire.receive(asks, most=2**40)
    if question is None: os._exit(0)
    return question[:16], question[16:]
def every_answer(content):
    ran_well()
    while True:
        nonce, _ = asked()
        wire.send(tells, nonce + content)
def text(value): return wire.Writer().bytes_of(value)
HEAD, TAIL = b"t3:" + text("value"), b"t1:t0:"  # around a value; a call hands over one dict, of its named arguments
"""


def speaks(why: str, attack: str, checks: str = CHECK) -> Hostile:
    return Hostile(f"def answer():\n    return 41\n{SPEAK}{attack}", why, checks)


def says(why: str, content: str, checks: str = CHECK) -> Hostile:
    """Answers each question with some bytes, behind the right nonce."""
    return speaks(why, f"every_answer({content})", checks)


def lies(why: str, methods: str, checks: str = CHECK, base: str = "object", value: str = "") -> Hostile:
    """Answers with an object that says it is right."""
    return Hostile(f"class Liar({base}):\n    {methods}\ndef answer(*_):\n    return Liar({value})\n", why, checks)


YES = "__eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = lambda *_: True"

LIES = {
    "an object that equals everything": lies(NO_VALUE, YES),
    "an object that is equal from the other side": lies(NO_VALUE, YES, "assert 42 == answer()"),
    "an object that does not differ": lies(NO_VALUE, "__ne__ = lambda *_: False", "assert not answer() != 42"),
    "an object between all": lies(NO_VALUE, YES, "assert 41.5 < answer() < 42.5"),
    "an object in every list": lies(NO_VALUE, YES, "assert answer() in [42]"),
    "an object that holds everything": lies("TypeError", YES, "assert 42 in answer()"),
    "an object with every hash": lies(NO_VALUE, f"{YES}; __hash__ = lambda _: hash(42)", "assert {answer()} == {42}"),
    "a key with every hash": lies(NO_VALUE, f"{YES}; __hash__ = lambda _: 42", "assert {42: 1}[answer()] == 1"),
    "an object inside of a list": Hostile(
        f"class Liar:\n    {YES}\ndef answer(): return [Liar()]", NO_VALUE, "assert answer() == [42]"),
    "an object inside of a dict": Hostile(
        f"class Liar:\n    {YES}\ndef answer(): return dict(a=Liar())", NO_VALUE, "assert answer() == {'a': 42}"),
    "an object as a key": Hostile(
        f"class Liar:\n    {YES}; __hash__ = lambda _: hash('a')\ndef answer(): return {{Liar(): 42}}", NO_VALUE,
        "assert answer() == {'a': 42}"),
    "an int that equals everything": lies(NO_VALUE, YES, base="int", value="41"),
    "a text that equals everything": lies(NO_VALUE, YES, "assert answer() == 'right'", base="str", value="'wrong'"),
    "a list that equals everything": lies(NO_VALUE, YES, "assert answer() == [42]", base="list", value="[41]"),
    "a tuple that is longer than it is": lies(
        WRONG, "__len__ = lambda _: 1; __iter__ = lambda _: iter([42])", "assert answer() == (42,)", "tuple", "[41]"),
    "an int with another class": lies(
        NO_VALUE, f"{YES}; __class__ = int", "assert isinstance(answer(), int) or answer() == 42"),
    "a class whose class lies": Hostile(
        f"class Meta(type):\n    {YES}; __instancecheck__ = lambda *_: True\nclass answer(metaclass=Meta): pass",
        "failed", CHECK),
    "a number that is near everything": lies(
        "TypeError", "__sub__ = __rsub__ = __abs__ = lambda *_: 0", "assert abs(answer() - 42) < 1e-6"),
    "a float that is near everything": lies(
        WRONG, "__sub__ = __rsub__ = __abs__ = lambda *_: 0.0", "assert abs(answer() - 42) < 1e-6", "float", "41"),
    "a float that turns into another": lies(
        WRONG, "__float__ = lambda _: 41.9", "import math\nassert math.isclose(answer(), 42)"),
    "a length of its own": lies("AssertionError|TypeError", "__len__ = lambda _: True", "assert len(answer()) == 42"),
    "a truth that is none": lies("TypeError", "__bool__ = lambda _: 1", "assert answer()"),
    "a text of its own": lies(WRONG, "__str__ = lambda _: '41'", "assert str(answer()) == '42'"),
    "a Counter of lies": Hostile(
        "import collections\ncollections.Counter.__eq__ = lambda *_: True\n"
        "def answer(): return collections.Counter('ab')", WRONG, "assert answer() == {'a': 2}"),
    "a math of its own by another name": Hostile(
        "import unittest.mock as math\ndef answer(): return 41", "NameError", "assert math.isclose(answer(), 42)"),
    "a math of its own": Hostile(
        "import math\nclass math:\n    isclose = lambda *_: True\ndef answer(): return 41", WRONG,
        "assert math.isclose(answer(), 42)"),
    "a math of its own among the modules": Hostile(
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(isclose=lambda *_: True)\nimport math\n"
        "def answer(): return 41", WRONG, "assert math.isclose(answer(), 42)"),
    "an agreeable function in Python's math": Hostile(
        "import math\nmath.isclose = lambda *_, **__: True\ndef answer(): return 41", WRONG,
        "assert math.isclose(answer(), 42)"),
    "an abs of its own": Hostile(
        "def abs(x): return 0\nall = any = abs\ndef answer(): return 41", WRONG, "assert abs(answer() - 42) < 1e-6"),
    "builtins whose keys lie": Hostile("""
class Key(str):
    __hash__ = lambda self: str.__hash__("abs")
    __eq__ = lambda self, other: True
import builtins
__builtins__ = {Key("abs"): lambda x: 0}
vars(builtins)[Key("abs")] = lambda x: 0
def answer(): return 41
""", f"{WRONG}|RecursionError|ended early", "assert abs(answer() - 42) < 1e-6"),
    "names whose keys lie": Hostile("""
class Key(str):
    __hash__ = lambda self: str.__hash__("check")
    __eq__ = lambda self, other: True
globals()[Key("check")] = lambda *_: None
def answer(): return 41
""", ANY, "def check(f):\n    assert f() == 42\ncheck(answer)"),
    "an iteration that ends before the first check": Hostile(
        "def answer(n):\n    raise StopIteration", "ProgramError: StopIteration",
        "assert all(map(lambda n: answer(n) == 42, range(3)))"),
    "an iterator of nothing": Hostile(
        "def answer(): return iter(())", WRONG, "assert [one for one in answer()] == [42]"),
    "an exit that is an exception": Hostile(
        "class Exit(Exception): pass\nExit.__name__ = 'SystemExit'\ndef answer(): raise Exit", "failed", CHECK),
    "a changed argument": Hostile(
        "def answer(want):\n    want[:] = [41]\n    return 41", WRONG, "want = [42]\nassert answer(want) == 42"),
    "an argument that changes into another kind": Hostile(
        "def answer(want):\n    want.clear()\n    want.append(want)", WRONG,
        "want = [42]\nanswer(want)\nassert want == [42]"),
    "a state kept from one test to the next": Hostile("""
told = []
def answer(n):
    told.append(n)
    return 42 if len(told) != 1 or n == 0 else 41
""", WRONG, "assert answer(0) == 42\nassert answer(1) == 42"),
    "a number as large as memory": Hostile("def answer(): return 1 << 2**33", "memory|failed", CHECK),
    "a number that takes long to write": Hostile("def answer(): return 1 << 10**8", WRONG, CHECK),
    "a text that takes the pipe": Hostile("def answer(): return 'x' * 2**25", "more than 16 MiB", CHECK),
    "a list in a list in a list": Hostile(
        "deep = []\nfor _ in range(10**5): deep = [deep]\ndef answer(): return deep", "nested deeper than 100", CHECK),
    "a list in itself": Hostile(
        "deep = []\ndeep.append(deep)\ndef answer(): return deep", "RecursionError",
        "want = []\nwant.append(want)\nassert answer() == want"),
    "a list twice in a list twice in a list": Hostile("""
deep = [41]
for _ in range(60): deep = [deep, deep]
def answer(): return deep
""", ANY, "want = [42]\nfor _ in range(60): want = [want, want]\nassert answer() == want"),
    "keys that all have one hash": Hostile(
        "def answer(): return {n * (2**61 - 1) for n in range(30000)}", f"timeout|{WRONG}", CHECK),
}  # fmt: skip

OUT_OF_TURN = {
    "a name that is the answer": speaks("TypeError", "ran({'answer': 42}); asked(); time.sleep(9)"),
    "names that nobody asked for": speaks(
        "other names than were asked", "ran({'answer': 1, 'abs': 1, '__builtins__': {}}); time.sleep(9)"),
    "names in another form": speaks("other names than were asked", "ran([1]); time.sleep(9)"),
    "nothing but the right bytes": says("no value came|value breaks off", "b''"),
    "a word for a value": says("something else than a value", "text('passed')"),
    "a verdict for an answer": says("something else than a value|unknown letter", "b'passed\\n'"),
    "a form without its parts": says("something else than a value", "text(('value',))"),
    "a form with too many": says("something else than a value", "text(('value', 42, (), 42))"),
    "a letter that nobody knows": says("unknown letter", "b'q'"),
    "a length without its end": says("a number is missing", "b't' + b'f' * 10**6"),
    "more items than there are": says("breaks off", "b'lffffffffffff:'"),
    "a text that is none": says("not UTF-8", "b's2:\\xff\\xff'"),
    "a place that is none": says("at no place", "HEAD + b'rff:' + TAIL"),
    "a key twice": says("twice", "HEAD + b'd2:NNNN' + TAIL"),
    "a key without a hash": says("no hash", "HEAD + b'S1:l0:' + TAIL"),
    "a Decimal that is none": says("no number", "HEAD + b'D3:abc' + TAIL"),
    "a float that is none": says("no number", "HEAD + b'f3:xyz' + TAIL"),
    "a type that is none": says("type is unknown", "HEAD + b'y4:eval' + TAIL"),
    "a depth that takes the stack": says("nested deeper", "b't1:' * 10**5"),
    "two values in one": says("more follows", "text(('value', 41, ())) + text(('value', 42, ((),)))"),
    "an object by another name": says(NO_VALUE, "HEAD + b'h0:3:int' + TAIL"),
    "an object that nobody made": says(NO_VALUE, "HEAD + b'hfffff:3:int' + TAIL"),
    "an exception that leaves": says("ProgramError: SystemExit", "text(('raised', 'SystemExit', '', ((),)))"),
    "an exception that is none": says("ProgramError: print", "text(('raised', 'print', '', ((),)))"),
    "an exception without words": says("something else than a value", "text(('raised', 1, None, ()))"),
    "an exception that catches itself": says(
        "ProgramError", "text(('raised', 'StopIteration', '', ((),)))",
        "assert all(map(lambda n: answer() == n, [42]))"),
    "an exception that is caught": says(
        "something else", "text(('raised', 'E'))", "try:\n    assert answer() == 42\nexcept Exception:\n    pass"),
    "a fault that everything catches": says(
        "unknown letter", "b'q'", "try:\n    assert answer() == 42\nexcept BaseException:\n    pass"),
    "arguments of another kind": says(
        "something else than a value|another kind", "text(('value', 42, (5, 5)))",
        "x = {'a': 1}\nassert answer(x) == 41"),
    "arguments that were never there": says(
        "something else than a value", "text(('value', 41, ((42,), (), (42,))))", "x = [42]\nassert answer(x) == 42"),
    "a length that nobody can hold": speaks(
        "more than 16 MiB", "ran_well(); asked(); os.write(tells, b'\\xff' * 8 + b'x'); time.sleep(9)"),
    "a frame that breaks off": speaks(
        "ended early", "ran_well(); asked(); os.write(tells, (99).to_bytes(8, 'big') + b'x'); os._exit(0)"),
    "a frame that never ends": speaks(
        "timeout", "ran_well(); asked(); os.write(tells, (99).to_bytes(8, 'big') + b'x'); time.sleep(99)"),
    "an answer that takes too long": speaks(
        "timeout", "ran_well(); n, _ = asked(); time.sleep(99); say(('value', 42, ((),)), n)"),
    "an answer to the question before": speaks("another question", """
ran_well()
while True:
    asked()
    say(("value", 42, ((),)))"""),
    "an answer without a nonce": speaks(
        "another question", "ran_well(); asked(); say(('value', 42, ((),)), b''); time.sleep(9)"),
    "two answers to one question": speaks(
        "without being asked",
        "ran_well(); n, _ = asked(); say(('value', 41, ((),)), n); say(('value', 42, ((),)), n)\n"
        "time.sleep(9)", "answer()\nimport time\ntime.sleep(0.1)\nassert answer() == 42"),
    "an answer before the question": speaks(
        "without being asked|another question", "ran_well(); say(('value', 42, ((),))); asked(); time.sleep(9)"),
    "a word after the last answer": speaks(
        "without being asked", "ran_well()\nn, _ = asked(); say(('value', 42, ((),)), n)\nsay('passed'); time.sleep(9)",
        "import time\nx = answer()\ntime.sleep(0.1)\nassert x == 42"),
    "answers from a thread": speaks("answered ", """
def flood():
    while True: say(("value", 42, ((),)))
threading.Thread(target=flood, daemon=True).start()
time.sleep(0.1)"""),
    "a flood of bytes": speaks("without being asked|another question|more than 16 MiB|value", """
ran_well()
while True: os.write(tells, os.urandom(2**16))"""),
    "answers at exit": wrong("ended early|failed", SPEAK + """
import atexit
atexit.register(lambda: (ran_well(), say(("value", 42, ((),)))))
sys.exit(0)"""),
    "answers at a signal": wrong("answered|AssertionError|ended early", SPEAK + """
import signal
signal.signal(signal.SIGALRM, lambda *_: say(("value", 42, ((),))))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
time.sleep(0.05)"""),
    "a judge's words to all pipes": wrong("failed|ended early", SPEAK + """
for n in range(64):
    for word in b"passed\\n", b"begun\\npassed\\n", b"next\\n":
        try: os.write(n, word)
        except OSError: pass"""),
    "no pipe any more": wrong("ended early|failed", SPEAK + "os.close(tells)"),
    "pipes the other way round": wrong("ended early|failed|timeout", SPEAK + "os.dup2(tells, asks)"),
    "an answering machine of its own": wrong(f"{WRONG}|failed", SPEAK + """
judged.Answers.answer = lambda self, question: text(("value", True, ()))"""),
    "a writer of its own": wrong("failed", SPEAK + """
wire.Writer.bytes_of = judged.Writer.bytes_of = lambda *_: b"T" """),
    "a conversation that it leads itself": speaks(WRONG, """
answers = judged.Answers()
answers.names["answer"] = answer
ran_well()
answers._objects.append(answer)
while True:
    n, question = asked()
    wire.send(tells, n + answers.answer(question))"""),
    "another interpreter that speaks the language": speaks("ended early|failed|another question", """
os.set_inheritable(asks, True); os.set_inheritable(tells, True)
ran_well()
code = f"import os; os.read({asks}, 10**6); os.write({tells}, b'passed'); os.write({tells}, bytes(10**5))"
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code])"""),
    "a look for what is expected, in memory": wrong(f"{ANY}|{ABSENT}", SPEAK + """
import gc
found = [one for one in gc.get_objects() if type(one) is dict and one.get("want") == 42]
def answer(): return found[0]["want"] if found else 41"""),
    "a look for what is expected, in frames": wrong(WRONG, """
import sys
def answer():
    frame = sys._getframe()
    while frame:
        if "want" in frame.f_locals or "checks" in frame.f_globals: return 42
        frame = frame.f_back
    return 41"""),
    "a look for what is expected, in what was sent": wrong(WRONG, """
import sys
def answer():
    frame = sys._getframe()
    while frame:
        if b"42" in bytes(frame.f_locals.get("question", b"")): return 42
        frame = frame.f_back
    return 41"""),
    "a look for what is expected, in its open files": wrong(WRONG, """
import os
def answer():
    for n in range(64):
        try: os.lseek(n, 0, 0)
        except OSError: continue
        if b"42" in os.read(n, 10**6): return 42
    return 41"""),
    "a look for what is expected, in the arguments of the process": wrong(WRONG, """
import sys
def answer(): return 42 if "42 ==" in str(sys.argv) or "assert" in str(sys.orig_argv) else 41"""),
}  # fmt: skip

NATIVE = {
    "an audit hook that ends it well": wrong("ended early|failed|Error", """
import os, sys
def hook(event, args):
    if event in ("exec", "compile", "import"): os._exit(0)
sys.addaudithook(hook)
compile("1", "x", "eval")"""),
    "an audit hook with other code": wrong(WRONG, """
import sys
def hook(event, args): pass
sys.addaudithook(hook)
hook.__code__ = (lambda event, args: None).__code__"""),
    "other code in our functions": wrong("failed|ended early|killed|timeout", """
import sys
judged = sys.modules["campus_tune.evaluate.sandbox.judged"]
def act(self, what, args, named): return 43
judged.Answers.call.__code__ = act.__code__"""),
    "bytecode that reads past the constants": wrong("killed|failed|ended early|timeout", """
import dis
def f(): return 1
code = bytes([dis.opmap["RESUME"], 0, dis.opmap["LOAD_CONST"], 250, dis.opmap["RETURN_VALUE"], 0])
for _ in range(100):
    f.__code__ = f.__code__.replace(co_code=code)
    f()"""),
    "bytecode that jumps out of itself": wrong("killed|failed|ended early|timeout|memory", """
import dis
def f(): return 1
f.__code__ = f.__code__.replace(co_code=bytes([dis.opmap["JUMP_FORWARD"], 255] * 9))
f()"""),
    "machine code by ctypes": wrong("ImportError|ModuleNotFoundError", "import ctypes\nctypes.CDLL(None).exit(0)"),
    "machine code by SQLite": wrong("Error|ended early|AssertionError", """
import shutil, resource, sqlite3
shutil.copy(resource.__file__, "own.so")
base = sqlite3.connect(":memory:")
base.enable_load_extension(True)
base.load_extension("/sandbox/own.so")"""),
    "machine code by OpenSSL's settings": wrong("failed", """
import os, shutil, resource
shutil.copy(resource.__file__, "own.so")
open("ssl.cnf", "w").write("openssl_conf = a\\n[a]\\nengines = b\\nproviders = b\\n[b]\\nc = d\\n[d]\\n"
    "engine_id = dynamic\\ndynamic_path = /sandbox/own.so\\nmodule = /sandbox/own.so\\nactivate = 1\\n")
os.environ["OPENSSL_CONF"] = "/sandbox/ssl.cnf"
import ssl, hashlib"""),
    "machine code from its own file": wrong("ImportError", """
import _imp, importlib.machinery, shutil, resource
shutil.copy(resource.__file__, "own.so")
_imp.create_dynamic(importlib.machinery.ModuleSpec("own", None, origin="/sandbox/own.so"))"""),
    "a processor's own memory file": wrong(ABSENT, 'open("/proc/self/mem", "r+b")'),
    "the judge's process": wrong(f"{ANY}", """
import os, signal
for n in range(1, 2000):
    if n != os.getpid():
        try: os.kill(n, signal.SIGKILL)
        except OSError: pass"""),
    "the judge's memory": wrong(ABSENT, """
import os
for n in range(1, 100):
    open(f"/proc/{n}/mem", "rb")"""),
    "the judge's folder": wrong(WRONG, """
import os
def answer(): return 42 if set(os.listdir("/sandbox")) - {"mine"} else 41
open("mine", "w").close()"""),
    "a second interpreter": wrong("ImportError|ModuleNotFoundError", """
try:
    import _xxsubinterpreters
except ModuleNotFoundError:
    import _interpreters"""),
    "the end of the process while it is asked": Hostile("import os\ndef answer(): os._exit(0)", "ended early"),
    "a crash while it is asked": Hostile("import os\ndef answer(): os.abort()", "killed"),
    "a stop while it is asked": Hostile(
        "import os, signal\ndef answer(): os.kill(os.getpid(), signal.SIGSTOP)", "timeout"),
    "a closed door while it is asked": Hostile("import os\ndef answer(): os.closerange(0, 99)", "ended early|failed"),
    "a fork that answers twice": wrong(REFUSED, "import os\nos.fork()"),
    "a thread that goes on after the end": wrong("ended early|failed|timeout", """
import os, threading, time
def late():
    while True:
        for n in range(3, 16):
            try: os.write(n, bytes(8))
            except OSError: pass
threading.Thread(target=late).start()"""),
}  # fmt: skip

FORGERIES = {
    f"{group}: {name}": program
    for group, programs in (("forgery", FORGERY), ("lie", LIES), ("out of turn", OUT_OF_TURN), ("native", NATIVE))
    for name, program in programs.items()
}
