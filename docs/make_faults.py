"""Write faults.md, what the library survives and which tests show it: `python docs/make_faults.py`. A test compares.

The faults stand in tests/docs/faults: an id, what the world does, what happens then. A test shows a fault by its name,
`test_k1_...` or `test_a2_a3_...`, or stands in the fault's `also`. One letter means two things in the two lists; a
table `below` says in which folder it means the second one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "docs" / "faults"
TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
IDS = re.compile(r"test_((?:[a-z]\d+_(?:and_)?)+)")
HEAD = """\
# Faults

What the world can do to a deploy, what happens then, and the tests that show it. `python docs/make_faults.py` writes
this page from `tests/docs/faults` and the names of the tests; a test fails where a fault has neither a test nor a
reason why it has none. `python -m pytest FILE -k test_k14_` runs what shows K14 in a file; the number behind a file
says how many tests that are. Tests below `tests/envs` with an E are those of the second list's environments.
"""
FOUND = """\
## Found by the machines

What tests that try at random, cut, kill and lie have found by themselves, and the test that fails without the mend.
"""
Tests = dict[str, list[str]]


def tests() -> Tests:
    """Return each file of tests, as people name it, with its tests."""
    return {
        str(path.relative_to(ROOT)): TEST.findall(path.read_text())
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
    }


def lists() -> list[dict[str, Any]]:
    """Return the two lists of faults."""
    return [tomllib.loads((DATA / f"{name}.toml").read_text()) for name in ("first", "second")]


def found() -> dict[str, Any]:
    """Return what our machines have found."""
    return tomllib.loads((DATA / "found.toml").read_text())


def faults(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a list's faults by their ids."""
    return {name: value for name, value in data.items() if re.fullmatch(r"[A-Z]\d+", name)}


def named(every: Tests) -> Iterator[tuple[int, str, str, str]]:
    """Yield the faults that names of tests hold: the number of the list, the id, the file, the test."""
    data = lists()
    for file, names in every.items():
        for name in names:
            match = IDS.match(name)
            for fault in re.findall(r"[a-z]\d+", match.group(1)) if match else ():
                yield list_of(data, fault.upper(), file), fault.upper(), file, name


def list_of(data: list[dict[str, Any]], fault: str, file: str) -> int:
    """Return the number of the list that a test's fault stands in, -1 where it stands in none."""
    at = [number for number, each in enumerate(data) if fault[0] in each["sections"]]
    if len(at) == 2:
        at = [1] if file.startswith(data[1]["below"][fault[0]]) else [0]
    return at[0] if at and fault in data[at[0]] else -1


def missing(path: str, every: Tests) -> bool:
    """Return whether a place, `file` or `file::test`, is not there."""
    file, _, name = path.partition("::")
    return name not in every.get(file, ()) if name else not (ROOT / file).exists()


def shown(files: dict[str, int], fault: dict[str, Any]) -> str:
    """Return what shows a fault, as its line says it."""
    counted = [f"`{file}`" + (f" ({count})" if count > 1 else "") for file, count in files.items()]
    parts = [*counted, *(f"`{path}`" for path in fault.get("also", ()))]
    said = f" Shown by {', '.join(parts)}." if parts else ""
    return said + (f" Not tested: {fault['untested']}" if "untested" in fault else "")


def section(data: dict[str, Any], letter: str, title: str, by_name: dict[str, dict[str, int]]) -> str:
    """Return a letter's part of the page."""
    rows = [
        f"- **{name}** {fault['when']}. *{fault['then']}*{shown(by_name.get(name, {}), fault)}"
        for name, fault in faults(data).items()
        if name[0] == letter
    ]
    return f"### {letter}. {title}\n\n" + "\n".join(rows) + "\n"


def page() -> str:
    """Return the page."""
    data = lists()
    counts: list[dict[str, dict[str, int]]] = [{}, {}]
    for number, name, file, _ in named(tests()):
        if number >= 0:
            files = counts[number].setdefault(name, {})
            files[file] = files.get(file, 0) + 1
    parts = [HEAD]
    for each, by_name in zip(data, counts, strict=True):
        parts.append(f"## {each['title']}\n")
        parts += [section(each, letter, title, by_name) for letter, title in each["sections"].items()]
    return "\n".join([*parts, FOUND, *machines(found())])


def machines(data: dict[str, Any]) -> Iterator[str]:
    """Yield a part for each machine that has found something."""
    for machine, what in data["machines"].items():
        rows = [
            f"- {fault['came']}. *{fault['now']}* Shown by {', '.join(f'`{path}`' for path in fault['tests'])}."
            for fault in data["fault"]
            if fault["machine"] == machine
        ]
        yield f"### {what[0].upper()}{what[1:]}\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "faults.md").write_text(page())
    sys.stdout.write(f"{sum(len(faults(each)) for each in lists())} faults, {len(found()['fault'])} found\n")
