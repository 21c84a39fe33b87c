"""The laws of the house, kept by reading its source: nobody has to remember them."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncdeploy
from tests.support import tools
from tests.support.places import HOUSE, ROOT

# The plan of the house. A room imports only rooms that stand above it; a new room gets its place here, with a word on
# what it is for. A package is one room with all of its modules.
PLAN = """
ground: frozen data and text
    plain           frozen values as plain data and back
    errors          what can go wrong
    names           what a host, a user and a name may look like
    ranges          many names in few words
    nodes_text      how people write a node
    node            one machine and the way to it
    nodes           many machines, in the order of their ranks
    command         what is asked, what came back
    workspace       what is shipped, where it stands
    facts           what a node is
    job             a detached job and its state
    events          what happened
    report          what a fleet answered

text and arithmetic: no I/O
    texts           what is shipped beside the code
    shell           the only place that writes shell
    node_side       programs that run on a node
    patterns        gitignore-style patterns
    manifest        a tree as data
    contents        what names a content, large ones by the piece
    pieces          which pieces of a large content travel
    placement       ranks, addresses, ports as arithmetic
    launch_data     a launch as data
    diagnosis       where the ranks of a launch stand
    restart         what becomes of a launch that failed
    gang            what supervisors of a launch know of each other
    fold            lines that many nodes print alike
    symptoms        what the words of a failed rank mean
    last_words      the end of a rank's log
    evidence        what a node's records say of its failed ranks
    cause_text      a launch's failure in words
    causes          why a launch failed
    verdict         whether nodes can run one job together
    rank_start      what every launcher's ranks start with
    torchrun        one command a node
    ranks           any program that takes its rank from the environment
    tar             a tar stream that every node reads
    transport       the seams
    envs            how a node becomes able: values that write shell
    stage           a stage of the work as events
    drift           what nodes got, and how they differ
    env_causes      known causes of a failed step
    env_steps       what the steps of an environment say

local disk
    hash_cache      what large files hashed to
    listing         which files are sent, what they hold
    bundle          a workspace made ready for many nodes
    input           what a command reads
    extract         write what a node sent, and nothing outside

connections
    known_hosts     a known_hosts file as data
    ssh_config      what the user's ssh_config says
    ssh_hosts       which hosts it tells apart
    hostkeys        who may answer
    dial            TCP to the first address that answers
    ssh_keys        what we log in with
    ssh_place       where a node's name leads
    ssh_errors      foreign exceptions as ours
    ssh_channel     one line running on a node
    ssh             the only door to asyncssh
    limits          how much at once, and how long
    lease           a connection with its slots
    slots           who gets which slot
    pool            live connections, shared and bounded
    parallel        many nodes at once

low: first argument is a remote
    worker          our programs on a node
    output          what a command prints
    probe           ask a node what it is
    run_plain       attached, without python3
    run             attached: dies with us
    jobs_plain      detached, without python3
    window          a tmux session that shows a job
    job_words       what a node says of its jobs
    jobs            detached: outlives us
    steps           a conversation with plain sh
    feed            a push's blocks on their way to a node
    relay_certs     who nodes are to each other in one push
    relay           node -> node
    push_answer     what a receiver answers
    push_seen       a site as plain sh has seen it
    push_words      what a push says to plain sh
    site_plain      a site held by plain sh
    push_plain      local -> node, without python3
    push            local -> node
    sync_listing    what a node says it has to send
    sync_plain      node -> local, without python3
    sync            node -> local
    sync_job        node -> local, while a job runs
    assets          one file that an environment needs
    bootstrap       make an environment
    rank_tools      what ranks need beside them, what they left

mid: first argument is a pool
    meeting         where the ranks of a launch meet
    pairs           every node connects to every other
    checks          whether nodes can run one job together: they are asked
    deploy          one node, from bare to running
    watch           over a launch that runs
    launch          ranks set off together
    attached        ranks that die with us
    hangs           ranks are asked where they stand
    attempts        a launch that is started again
    merge           lines of many logs in one order
    follow          what the ranks of a launch print

high: first argument is nodes, deployments or a launch
    fleet           the same for many
    fleet_launch    launches on many

people
    gate            a line that can be cut, frozen and slowed
    local_sweep     what runs on a local node
    local_process   a command on a local node
    local           SSH nodes inside this process
    testing         fixtures for people who build on us
    cli             what people type and see
    __init__        the face
    __main__        python -m asyncdeploy
"""

# ssh, ssh_channel, ssh_keys and ssh_errors are one door in four files.
MAY_IMPORT_ASYNCSSH = {"hostkeys", "ssh", "ssh_channel", "ssh_errors", "ssh_keys", "local"}
MAY_PRINT = {"cli", "events", "node_side", "__main__"}
FORBIDDEN_NAMES = {"core", "client", "utils", "helpers", "common"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_PARAMETERS = 6


def rooms() -> list[str]:
    """The rooms in their order."""
    return [line.split()[0] for line in PLAN.splitlines() if line.startswith("    ")]


def level(name: str) -> set[str]:
    """The rooms below the headline that starts with `name`."""
    block = next(block for block in PLAN.strip().split("\n\n") if block.startswith(name))
    return {line.split()[0] for line in block.splitlines()[1:]}


def module_of(path: Path) -> str:
    """A file's module below asyncdeploy, as a dotted name; the package itself is __init__."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(module: str) -> str | None:
    """The room that a module belongs to, if it has one."""
    room = module.partition(".")[0]
    return room if room in rooms() else None


def sources() -> list[Path]:
    """Every Python file of the house."""
    return sorted(HOUSE.rglob("*.py"))


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
            # "from asyncdeploy import x" may mean a module or a name of the face.
            if base == "asyncdeploy":
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def our_imports(path: Path) -> Iterator[tuple[int, str]]:
    """The rooms that a file imports, with the lines; what is no room is a name of the face."""
    for line, name in imports(tree_of(path)):
        if name.split(".")[0] == "asyncdeploy":
            yield line, room_of(name.removeprefix("asyncdeploy").strip(".")) or "__init__"


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


def test_every_room_has_its_place() -> None:
    lost = [str(path.relative_to(ROOT)) for path in sources() if room_of(module_of(path)) is None]
    assert not lost, f"not in the plan at the top of this file: {lost}"
    assert len(set(rooms())) == len(rooms())


def test_imports_run_upward() -> None:
    plan = rooms()
    wrong = []
    for path in sources():
        room = room_of(module_of(path))
        for line, wanted in our_imports(path):
            if room is not None and wanted != room and plan.index(wanted) > plan.index(room):
                wrong.append(f"{where(path, line)}: {room} imports {wanted}, which stands below it")
    assert not wrong, "\n".join(wrong)


def test_verbs_know_the_seams_not_the_connections() -> None:
    wrong = []
    for path in sources():
        room = room_of(module_of(path))
        for line, wanted in our_imports(path):
            if room in level("low") and wanted in level("connections") - {"parallel"}:
                wrong.append(f"{where(path, line)}: a low verb knows transport, not {wanted}")
            if wanted.startswith("ssh") and wanted != "ssh_config" and not str(room).startswith(("ssh", "pool")):
                wrong.append(f"{where(path, line)}: pool alone imports ssh")
    assert not wrong, "\n".join(wrong)


def test_no_import_of_ours_hides_in_a_function() -> None:
    wrong = [
        f"{where(path, line)}: imports {name}"
        for path in sources()
        for function, _ in functions(tree_of(path))
        for line, name in imports(function)
        if name.startswith(("asyncdeploy", "."))
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_are_absolute() -> None:
    wrong = [where(path, line) for path in sources() for line, name in imports(tree_of(path)) if name.startswith(".")]
    assert not wrong, "\n".join(wrong)


def test_asyncssh_has_three_doors() -> None:
    wrong = [
        where(path, line)
        for path in sources()
        for line, name in imports(tree_of(path))
        if name.split(".")[0] == "asyncssh" and room_of(module_of(path)) not in MAY_IMPORT_ASYNCSSH
    ]
    assert not wrong, "\n".join(wrong)


def test_programs_on_a_node_need_nothing_but_an_old_python() -> None:
    wrong = []
    for path in sorted((HOUSE / "node_side").glob("*.py")):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 8))
        for line, name in imports(tree_of(path)):
            # What stands beside it is put into the program before it is sent.
            known = name.split(".")[0] in {*sys.stdlib_module_names, "sitecustomize"}  # Python's own, if there is one
            if not known and not name.startswith("asyncdeploy.node_side."):
                wrong.append(f"{where(path, line)}: imports {name}")
    assert not wrong, "\n".join(wrong)


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
            if path.stem in ("fleet", "fleet_launch") and names[-1:] == ["pool"]:
                names = names[:-1]  # all of the high level take it, so nobody has to remember that one does
            if function.name == "fan_out":  # the whole way in one call; the plan of the house names its words
                names = [name for name in names if name not in ("restart", "spares")]
            if len(names) > MAX_PARAMETERS and not is_constructor_of_data(function, owner):
                wrong.append(f"{where(path, function.lineno)}: {function.name} takes {len(names)}")
            if given.kwarg is not None and not function.name.startswith("_") and path.parent.name != "node_side":
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


def test_work_never_prints() -> None:
    wrong = [
        where(path, node.lineno)
        for path in sources()
        if room_of(module_of(path)) not in MAY_PRINT
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
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
        ["--shell=bash", str(ROOT / ".ci" / "run")],
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
    unknown = sorted(name for name in named if name not in asyncdeploy.__all__ and room_of(name) is None)
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
