"""Faults that `eval/fuzz.py --prove` plants into a copy of the package, each of another kind: would the fuzz notice?

They were chosen before the generator was written, as mistakes that a person could make: a check that is forgotten, an
exception that is not expected, a text that is not escaped, a loop that does not end. Each replaces a piece of source
that must be there exactly once; where it is not, the proof stops and says so, for a fault that was not planted is
neither found nor missed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: what is wrong then.
        file: in the package.
        old: source that is there once.
        new: what stands there instead.
    """

    name: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault(
        "a range check is gone",
        "recipe/config.py",
        'mix: Annotated[float | None, Range(0, 1, "[)")] = None',
        "mix: float | None = None",
    ),
    Fault(
        "a type check is gone",
        "recipe/reader.py",
        "if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or len(value) < self.least:",
        "if isinstance(value, str):",
    ),
    Fault(
        "unknown settings are taken",
        "recipe/reader.py",
        "problems = keys(what, given, list(known))",
        "problems: list[str] = []",
    ),
    Fault(
        "NaN is taken for a number",
        "words/leaves.py",
        'return [] if inside else self.refusal(what, value, "Choose a value',
        'return [] if inside or value != value else self.refusal(what, value, "Choose a value',
    ),
    Fault(
        "a key that comes twice is taken",
        "words/strict_yaml.py",
        'raise yaml.constructor.ConstructorError(None, None, f"the key',
        'key or yaml.constructor.ConstructorError(None, None, f"the key',
    ),
    Fault(
        "another exception than ours",
        "recipe/reader.py",
        'raise RecipeError(f"`{what}` must be {cls.must}',
        'raise LookupError(f"`{what}` must be {cls.must}',
    ),
    Fault(
        "a sentence that says nothing",
        "words/leaves.py",
        'f"`{what}` must be {self.must}, got {shown(value)}. {advice}"',
        'f"bad {what}: {shown(value)}. {advice}"',
    ),
    Fault("the exit code of a grave finding is 0", "cli/check.py", ", int(found.grave))", ", 0)"),
    Fault(
        "a number on the command line has no range",
        "cli/options.py",
        "if not (value >= low if kind is int else value > low):",
        "if False:",
    ),
    Fault(
        "a flag without a value is a crash",
        "recipe/trl_yaml.py",
        "    if value is None:\n        raise RecipeError",
        "    if False:\n        raise RecipeError",
    ),
    Fault(
        "a missing file is a crash",
        "words/files.py",
        "    except OSError as error:\n        hint = nearest(path.name",
        "    except BlockingIOError as error:\n        hint = nearest(path.name",
    ),
    Fault(
        "another encoding is a crash",
        "words/files.py",
        "        except UnicodeDecodeError as error:",
        "        except UnicodeEncodeError as error:",
    ),
    Fault(
        "a gzip that breaks off is a crash",
        "words/files.py",
        "except (EOFError, gzip.BadGzipFile, zlib.error) as error:",
        "except gzip.BadGzipFile as error:",
    ),
    Fault(
        "nested rows are a crash",
        "words/files.py",
        "        value = json.loads(line)\n    except (ValueError, RecursionError) as error:",
        "        value = json.loads(line)\n    except ValueError as error:",
    ),
    Fault("cells too many are taken", "words/files.py", "if None in row or None in row.values():", "if False:"),
    Fault(
        "an odd row is read for ever",
        "data/plain.py",
        '    if value is None:\n        return ""\n',
        '    if value is None:\n        return ""\n    while value == "":\n        pass\n',
    ),
    Fault(
        "memory by a value of the data",
        "data/own_numbers.py",
        "numbers, missing = np.full(len(values), np.nan), []",
        "most = max((abs(v) for v in values if isinstance(v, int)), default=0)\n"
        "        numbers, missing = np.full(len(values) + most, np.nan)[: len(values)].copy(), []",
    ),
    Fault("NaN scores order rows", "metrics/base.py", "    if bad.size:", "    if False:"),
    Fault("rows without an answer are trained", "data/prepared.py", "    if len(silent):", "    if False:"),
    Fault(
        "a shard's checksum is not looked at",
        "scores/shards.py",
        'if not name.endswith(f"-{sha256(data, 16)}.parquet"):',
        "if False:",
    ),
    Fault(
        "a checkpoint's checksums are not looked at",
        "run/manifest.py",
        "changed = [name for name in files if hashed[name][1] != files[name][1]]",
        "changed: list[str] = []",
    ),
    Fault(
        "a damaged record of a checkpoint is a crash",
        "run/manifest.py",
        '    except ValueError as error:\n        raise ValueError(f"{FILE} is damaged',
        '    except UnicodeError as error:\n        raise KeyError(f"{FILE} is damaged',
    ),
    Fault(
        "a checkpoint of another run is taken",
        "run/lineage.py",
        "        if saved.run != self.run:",
        "        if False:",
    ),
    Fault(
        "a damaged key of the cache is a crash",
        "scores/cache.py",
        "    except (OSError, ValueError, TypeError):\n        return None",
        "    except OSError:\n        return None",
    ),
    Fault("the page's texts are not escaped", "report/page.py", "autoescape=True,", "autoescape=False,"),
    Fault(
        "code in the page is not escaped",
        "report/page.py",
        'Markup("<code>{}</code>").format(part)',
        'Markup(f"<code>{part}</code>")',
    ),
    Fault(
        "results of another format are read",
        "evaluate/results.py",
        '        if content["format"] != FORMAT:',
        "        if False:",
    ),
    Fault(
        "texts are taken for values of documents",
        "evaluate/results.py",
        "        return _is_number(content)",
        "        return True",
    ),
    Fault(
        "a seed counts twice",
        "compare/settings.py",
        "twice = [one for one, n in Counter(given).items() if n > 1]",
        "twice: list[int] = []",
    ),
)


def plant(fault: Fault | None, package: Path, into: Path) -> Path:
    """A copy of the package in `into`, with the fault; gives back the folder to import it from.

    Raises:
        LookupError: the source that the fault replaces is not there, or not once.
    """
    shutil.copytree(package, into / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    if fault is not None:
        path = into / package.name / fault.file
        source = path.read_text("utf-8")
        if source.count(fault.old) != 1:
            raise LookupError(
                f"{fault.name!r} cannot be planted: {fault.old!r} is {source.count(fault.old)}× in {fault.file}"
            )
        path.write_text(source.replace(fault.old, fault.new), "utf-8")
    return into
