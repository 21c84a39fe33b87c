"""The laws of the house, kept by reading its source: nobody has to remember them."""

import ast
import collections
import functools
import graphlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncdeploy
from asyncdeploy.remote.programs import needed
from tests.support import tools
from tests.support.places import HOUSE, ROOT

# The plan of the house, a row a folder: what its own files import of other folders. A row names only rows above it, and
# nothing that its folder does not use, so that a change of this table is a change of the architecture. What stands at
# the top of the package has rows of its own. A new file needs no edit here.
PLAN = """
values.shown
values              values.shown
tasks
nodes               tasks values values.shown
sources             nodes values
node_side
node_side.push      node_side
node_side.launch    node_side
node_side.run.supervising  node_side
node_side.run       node_side node_side.launch node_side.run.supervising
node_side.envs      node_side
node_side.engines   node_side
node_side.collect   node_side
node_side.clean     node_side node_side.push node_side.run
node_side.looks     node_side node_side.launch node_side.run
remote              nodes tasks values
connect.ssh.handshake  values
connect.ssh.config  connect.ssh.handshake nodes tasks values
connect.ssh.known_hosts  connect.ssh.config nodes tasks values
connect.ssh         connect.ssh.config connect.ssh.handshake connect.ssh.known_hosts nodes remote tasks
                    values
connect.srun        nodes remote tasks values
connect             connect.srun connect.ssh nodes remote tasks values
push.bundle         tasks values
push.relay          push.bundle remote values
push.sh             node_side.push push.bundle remote tasks values
push                node_side.push push.bundle push.relay push.sh remote tasks values
run                 nodes remote tasks values values.shown
envs                node_side.envs nodes tasks values
envs.bootstrap      envs nodes remote run tasks values
collect             remote tasks values
deploy              collect connect envs envs.bootstrap nodes push push.bundle push.relay remote run tasks values
                    values.shown
launch              nodes run values values.shown
launch.launchers    launch push.relay values
launch.preflight    connect envs launch.launchers nodes remote values values.shown
launch.root_cause   launch nodes run values
launch.gang         connect deploy launch launch.preflight launch.root_cause nodes push remote run tasks values
launch.follow       connect launch launch.gang launch.root_cause nodes remote run tasks values values.shown
fleet               collect connect deploy envs envs.bootstrap launch launch.follow launch.gang launch.launchers
                    launch.preflight nodes push push.bundle push.relay remote run tasks values values.shown
sources.slurm       connect fleet nodes run tasks values
sources.rent        connect connect.ssh fleet nodes tasks values
sources.rent.providers  nodes sources.rent values
local               connect connect.ssh nodes remote tasks values
view                values
face                EVERY
testing             EVERY
cli.settings        face values
cli.desk            cli.settings face values view
cli.work            cli.desk cli.settings connect.ssh envs face launch.follow launch.gang run sources.slurm
                    tasks values values.shown
cli                 EVERY
cli.verbs           cli cli.desk cli.settings face
"""

MAY_IMPORT_ASYNCSSH = {"connect.ssh", "connect.ssh.handshake", "connect.ssh.known_hosts", "local"}
MAY_PRINT = {"cli", "cli.desk", "cli.work", "node_side.engines", "node_side.envs", "node_side.launch", "view"}
STAND_ALONE = (
    *("launch/rank_shim", "launch/torchrun", "engines/look", "engines/ray_nodes", "engines/dask_nodes"),
    *("envs/inspect_env", "envs/check_imports", "envs/made_from", "envs/made_note", "envs/venvs"),
)
"""Programs of node_side that run outside the worker: each is one file, kept on the node or given to an interpreter."""
FORBIDDEN_NAMES = {"core", "client", "utils", "helpers", "common"}
MAX_FILE_LINES = 300
MAX_TEST_LINES = 500
MAX_FOLDER_FILES = 16
MAX_TOP_FILES = 5
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
FACE = {"__init__": "face", "__main__": "cli", "deploy": "deploy", "testing": "testing"}


def plan() -> dict[str, list[str]]:
    """What each folder may import, in the order of the rows."""
    rows = PLAN.replace("\n          ", "").strip().splitlines()
    return {row.split()[0]: row.split()[1:] for row in rows}


def module_of(path: Path) -> str:
    """A file's module, as a dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(path: Path) -> str:
    """The row that a file belongs to."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return FACE[parts[0]] if len(parts) == 1 else ".".join(parts[:-1])


def sources() -> list[Path]:
    """Every Python file of the house but the demo's project, which is a user's."""
    return sorted(path for path in HOUSE.rglob("*.py") if "demo_project" not in path.parts)


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the house."""
    return {module_of(path): path for path in sources()}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(), filename=str(path))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every import with its line, wherever it stands: in a function and below TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:  # "from a import b" may mean a module or a name
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in modules() else base


def our_imports(path: Path) -> Iterator[tuple[int, Path]]:
    """The files of the house that a file imports, with the lines."""
    for line, name in imports(tree_of(path)):
        if name in modules():
            yield line, modules()[name]


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    """Every function with the class it stands in."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child, node if isinstance(node, ast.ClassDef) else None


def where(path: Path, line: int) -> str:
    """A place as editors understand it."""
    return f"{path.relative_to(ROOT)}:{line}"


def committed() -> list[Path]:
    """Every text file of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_every_folder_has_its_row_and_its_law() -> None:
    folders = {folder_of(path) for path in sources()}
    assert set(plan()) == folders, "the plan at the top of this file names other folders than there are"
    mute = []
    for path in sources():
        if path.name == "__init__.py" and path.parent != HOUSE:
            law = ast.get_docstring(tree_of(path)) or ""
            if not re.fullmatch(r"[^\n]{20,120}[.]", law.partition("\n\n")[0]):
                mute.append(str(path.relative_to(ROOT)))
    assert not mute, f"no law in one sentence: {mute}"


def test_a_row_names_only_rows_above_it() -> None:
    seen: set[str] = set()
    for folder, allowed in plan().items():
        assert allowed == ["EVERY"] or set(allowed) <= seen, f"{folder} names what stands below it"
        seen.add(folder)


def test_folders_import_what_their_rows_say_and_rows_say_no_more() -> None:
    wrong, used = [], {folder: set() for folder in plan()}
    for path in sources():
        folder = folder_of(path)
        for line, wanted in our_imports(path):
            if folder_of(wanted) != folder:
                used[folder].add(folder_of(wanted))
                if plan()[folder] != ["EVERY"] and folder_of(wanted) not in plan()[folder]:
                    wrong.append(f"{where(path, line)}: {folder} imports {folder_of(wanted)}: not in its row")
    for folder, allowed in plan().items():
        if allowed != ["EVERY"] and (idle := set(allowed) - used[folder]):
            wrong.append(f"the row of {folder} names what it does not use: {', '.join(sorted(idle))}")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_of_files_or_folders() -> None:
    files: dict[str, set[str]] = {}
    folders: dict[str, set[str]] = {}
    for path in sources():
        wanted = {found for _, found in our_imports(path)} - {path}
        files[module_of(path)] = {module_of(found) for found in wanted}
        folders.setdefault(folder_of(path), set()).update(
            folder_of(found) for found in wanted if folder_of(found) != folder_of(path)
        )
    for graph in (files, folders):
        tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_cancellation_is_outlasted_in_one_place() -> None:
    """anyio's shield and its threads let native cancellation through; the folder tasks does not."""
    wrong = [
        where(path, number)
        for path in sources()
        if folder_of(path) != "tasks" and not folder_of(path).startswith("node_side")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"shield=True|to_thread|run_in_executor|run_process|anyio\.(Path|open_file)", line)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_of_ours_hides_in_a_function() -> None:
    wrong = [
        f"{where(path, line)}: imports {name}"
        for path in sources()
        for function, _ in functions(tree_of(path))
        for line, name in imports(function)
        # On a node an import in a function saves the time of those who do not need it; it is counted all the same.
        if name.startswith(("asyncdeploy", ".")) and not folder_of(path).startswith("node_side")
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_are_absolute() -> None:
    wrong = [where(path, line) for path in sources() for line, name in imports(tree_of(path)) if name.startswith(".")]
    assert not wrong, "\n".join(wrong)


def test_asyncssh_has_two_doors() -> None:
    wrong = [
        where(path, line)
        for path in sources()
        for line, name in imports(tree_of(path))
        if name.split(".")[0] == "asyncssh" and folder_of(path) not in MAY_IMPORT_ASYNCSSH
    ]
    assert not wrong, "\n".join(wrong)


def node_programs() -> list[Path]:
    """Every Python file that runs on a node."""
    return sorted((HOUSE / "node_side").rglob("*.py"))


def test_programs_on_a_node_need_nothing_but_an_old_python() -> None:
    alone = {HOUSE / "node_side" / f"{name}.py" for name in STAND_ALONE}
    assert alone <= set(node_programs())
    wrong = []
    for path in node_programs():
        ast.parse(path.read_text("ascii"), filename=str(path), feature_version=(3, 8))
        for line, name in imports(tree_of(path)):
            # Python's own, if there is one; torch, where torchrun is started; an engine, where it is asked
            known = name.split(".")[0] in {*sys.stdlib_module_names, "sitecustomize", "torch", "ray", "distributed"}
            if not known and (path in alone or not name.startswith("asyncdeploy.node_side.")):
                wrong.append(f"{where(path, line)}: imports {name}")
    assert not wrong, "\n".join(wrong)


def test_a_node_is_sent_all_that_a_program_imports() -> None:
    for path in node_programs():
        wanted, program = {path}, module_of(path).removeprefix("asyncdeploy.node_side").lstrip(".")
        if path.name == "__init__.py":
            continue
        while more := {found for known in wanted for _, found in our_imports(known)} - wanted:
            wanted |= more
        names = {module_of(found).removeprefix("asyncdeploy.node_side.") for found in wanted}
        assert set(needed(program)) == names, program


def test_functions_are_short() -> None:
    wrong = []
    for path in sources():
        for function, _ in functions(tree_of(path)):
            assert function.end_lineno is not None
            lines = function.end_lineno - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                wrong.append(f"{where(path, function.lineno)}: {function.name} has {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_functions_take_few_parameters() -> None:
    wrong = []
    for path in sources():
        for function, owner in functions(tree_of(path)):
            given = function.args
            names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            if owner is not None and names[:1] in (["self"], ["cls"], ["mcs"]):
                names = names[1:]
            if folder_of(path) in (
                "fleet",
                "sources.slurm",
            ):  # all of the high level take these, so nobody has to remember that one does
                names = [name for name in names if name not in ("pool", "at_once", "at_most_s")]
            if function.name == "map_nodes":
                names = [name for name in names if name not in ("at_once", "at_most_s")]
            if function.name == "fan_out":  # the whole way in one call; the plan of the house names its words
                names = [name for name in names if name not in ("restart", "spares")]
            if len(names) > MAX_PARAMETERS and not is_constructor_of_data(function, owner):
                wrong.append(f"{where(path, function.lineno)}: {function.name} takes {len(names)}")
            is_public = not function.name.startswith("_") and not folder_of(path).startswith("node_side")
            if given.kwarg is not None and is_public:
                wrong.append(f"{where(path, function.lineno)}: {function.name} takes **{given.kwarg.arg}")
    assert not wrong, "\n".join(wrong)


def is_constructor_of_data(function: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef | None) -> bool:
    """Whether this is the constructor of an attrs class: its fields are its parameters."""
    marks = [ast.unparse(mark) for mark in owner.decorator_list] if owner is not None else []
    return function.name == "__init__" and any(mark.startswith(("attrs.frozen", "attrs.define")) for mark in marks)


def test_files_have_one_subject() -> None:
    wrong = []
    for path in sources():
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
        if path.stem in FORBIDDEN_NAMES:
            wrong.append(f"{path.relative_to(ROOT)}: a name that says nothing")
    assert not wrong, "\n".join(wrong)


def test_folders_can_be_read_at_a_glance() -> None:
    counts = collections.Counter(path.parent for path in sources() if path.name != "__init__.py")
    wrong = [str(folder.relative_to(ROOT)) for folder, count in counts.items() if count > MAX_FOLDER_FILES]
    assert not wrong, f"over {MAX_FOLDER_FILES} files: {wrong}"
    assert counts[HOUSE] <= MAX_TOP_FILES


def test_the_tests_can_be_read_at_a_glance() -> None:
    counts: collections.Counter[Path] = collections.Counter()
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        counts[path.parent] += path.name != "__init__.py"
        lines = len(path.read_text().splitlines())
        if lines > MAX_TEST_LINES:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
    wrong += [
        f"{folder.relative_to(ROOT)}: {count} files" for folder, count in counts.items() if count > MAX_FOLDER_FILES
    ]
    assert not wrong, "\n".join(wrong)


def test_work_never_prints() -> None:
    wrong = [
        where(path, node.lineno)
        for path in sources()
        if folder_of(path) not in MAY_PRINT
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_stages_are_told_in_one_place() -> None:
    """Whoever tells a stage's start tells its end: remote/stage.py sees to it, and nobody does it by hand."""
    events = {"StageStarted", "StageFinished", "StageFailed"}
    wrong = [
        where(path, node.lineno)
        for path in sources()
        if module_of(path) != "asyncdeploy.remote.stage"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in events
    ]
    assert not wrong, "\n".join(wrong)


def test_no_error_is_swallowed_without_a_word() -> None:
    wrong = []
    for path in sources():
        lines = path.read_text().splitlines()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
                # The reason may stand beside `except`, beside `pass`, between them or right below.
                text = "\n".join(lines[node.lineno - 1 : node.body[-1].lineno])
                if "#" not in text:
                    wrong.append(where(path, node.lineno))
    assert not wrong, "\n".join(wrong)


def test_no_test_module_imports_another() -> None:
    wrong = [
        f"{where(path, line)}: what {name} has for others stands in tests/support or a conftest.py"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in imports(tree_of(path))
        if name.startswith("tests.") and re.search(r"\.(test_\w+|conftest)(\.|$)", name)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_mocked() -> None:
    wrong = [
        where(path, line)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in imports(tree_of(path))
        if name.startswith(("unittest.mock", "mock", "pytest_mock"))
    ]
    assert not wrong, "\n".join(wrong)


def test_shell_programs_pass_shellcheck() -> None:
    tools.need("shellcheck")
    scripts = sorted(HOUSE.rglob("*.sh"))
    assert scripts
    for words in (
        ["--shell=sh", *map(str, scripts)],
        ["--shell=bash", *map(str, sorted((ROOT / ".ci").iterdir()))],
    ):
        result = subprocess.run(["shellcheck", *words], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


def test_the_face_is_sorted_and_every_name_explains_itself() -> None:
    names = list(asyncdeploy.__all__)
    assert names == sorted(names)
    mute = []
    for name in names:
        thing = getattr(asyncdeploy, name)
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not (thing.__doc__ or "").strip():
            mute.append(name)
    assert not mute, f"no docstring: {mute}"


def test_the_readme_speaks_of_what_there_is() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    named = set(re.findall(r"\b(?:asyncdeploy|ad)\.([A-Za-z_]\w*)", text))
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "asyncdeploy":
                named |= {alias.name for alias in node.names}
    known = {*asyncdeploy.__all__, *(name.partition(".")[2] for name in modules())}
    unknown = sorted(named - known)
    assert not unknown, f"README names what does not exist: {unknown}"


@pytest.mark.parametrize(
    "words,reason",
    [
        (("TO" + "DO", "FIX" + "ME", "X" * 3), "work is done or named in an issue"),
        (("py" + "pi.org", "python" + "hosted.org", "deb." + "debian.org", "npm" + "js.org"), "a registry's host"),
        (("/work/" + "main", "/work/" + "shared", "/work/" + "venv"), "a path of one machine"),
    ],
    ids=["open ends", "registries", "machines"],
)
def test_words_that_no_file_holds(words: tuple[str, ...], reason: str) -> None:
    pattern = re.compile("|".join(rf"(?<![\w]){re.escape(word)}(?![\w])" for word in words))
    wrong = []
    for path in committed():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{where(path, number)}: {line.strip()[:80]}")
    assert not wrong, f"{reason}:\n" + "\n".join(wrong)


def test_the_architecture_page_names_every_folder() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tops = {folder.replace(".", "/") for folder in plan() if folder not in ("face", "deploy", "testing")}
    missing = [folder for folder in tops if f"| `{folder}` |" not in text and not folder.startswith("node_side/")]
    assert not missing, f"docs/architecture.md has no row for {missing}"
