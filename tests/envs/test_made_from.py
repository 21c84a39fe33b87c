"""An environment's name holds all that it was made from: what uv itself would look at, and the code that is copied."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.node_side.envs.made_from import find
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site
from tests.support.envs import write_wheel
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import write

BACKEND = """
import pathlib, zipfile

def _wheel(folder, linked):
    config = pathlib.Path("pyproject.toml").read_text()
    name, script = (config.split(f"{word} = \\"", 1)[1].split('"', 1)[0] for word in ("name", "script"))
    info, path = f"{name}-1.dist-info", f"{name}-1-py3-none-any.whl"
    code = pathlib.Path(f"{name}.py").read_text() + f"\\nTABLE = {pathlib.Path('table.c').read_text()!r}\\n"
    files = {f"{name}.pth": str(pathlib.Path.cwd())} if linked else {f"{name}.py": code}
    files |= {f"{name}_table.py": code}
    files |= {f"{info}/entry_points.txt": f"[console_scripts]\\n{script} = {name}_table:main\\n"}
    files |= {f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n"}
    files |= {f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    files[f"{info}/RECORD"] = "".join(f"{file},,\\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(pathlib.Path(folder) / path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, False)

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, True)
"""
"""Builds a package of one module, a "C source" and a script, with nothing but what lies in its folder."""


def write_package(folder: Path, name: str, *, script: str = "go", text: str = "") -> None:
    """Write a package; its script prints which code and which table it was built from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "table.c").write_text("one")
    (folder / f"{name}.py").write_text("CODE = 'one'\n\n\ndef main():\n    print(CODE, TABLE)\n")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\n# script = "{script}"\n[build-system]\nrequires = []\n'
        f'build-backend = "backend"\nbackend-path = ["."]\n{text}'
    )


async def deploy(remote: ShellRemote, site: Site, env: UvEnv) -> str:
    """Make the environment, or find it unchanged; return which."""
    await bootstrap_env(remote, site, env)
    return "same" if details(remote.events, "env")[-1] == "= unchanged" else "made"


async def said(remote: ShellRemote, site: Site, env: UvEnv, line: str) -> str:
    facts = await probe_node(remote)
    return (await run_command(remote, env.enter(Command(line), site, facts), check=True)).text.strip()


@pytest.mark.parametrize("option", ["-r ", "-c ", "--requirement=", "--constraint "])
@pytest.mark.parametrize("named", [True, False])
async def test_e1_an_included_file_changed(
    remote: ShellRemote, site: Site, folder: Path, option: str, named: bool
) -> None:
    for name in ("a-lib", "b-lib"):
        write_wheel(folder / "wheels", name)
    (folder / "more").mkdir()
    top, first = folder / ("top.txt" if named else "requirements.txt"), folder / "more" / "first.in"
    top.write_text(f"{option}more/first.in\n--no-index\n--find-links wheels\na-lib\n")
    first.write_text("-r second.in # the one that changes\n")
    second = folder / "more" / "second.in"
    second.write_text("a-lib\n" if "r" in option[:3] else "a-lib<2\n")
    env = UvEnv(requirements="top.txt") if named else UvEnv()
    assert await deploy(remote, site, env) == "made"
    assert await deploy(remote, site, env) == "same"
    second.write_text("b-lib\n" if "r" in option[:3] else "a-lib>0.5\n")
    assert await deploy(remote, site, env) == "made"
    if "r" in option[:3]:
        assert await said(remote, site, env, "python -c 'import b_lib; print(b_lib.NAME)'") == "b-lib"
    assert await deploy(remote, site, env) == "same"


async def test_e2_a_c_source_changed_that_a_cache_key_names(remote: ShellRemote, site: Site, folder: Path) -> None:
    keys = '[tool.uv]\ncache-keys = [{ file = "pyproject.toml" }, { file = "**/*.c" }]\n'
    write_package(folder, "prog", text=keys)
    assert await deploy(remote, site, UvEnv()) == "made"
    assert await said(remote, site, UvEnv(), "go") == "one one"
    (folder / "notes.md").write_text("not named by any key\n")
    assert await deploy(remote, site, UvEnv()) == "same"
    (folder / "table.c").write_text("two")
    (old,) = folder.rglob("site-packages/prog_table.py")
    times = old.stat().st_atime, old.stat().st_mtime
    assert await deploy(remote, site, UvEnv()) == "made"
    (new,) = set(folder.rglob("site-packages/prog_table.py")) - {old}
    os.utime(new, times)  # made within a second, so Python takes its old bytecode
    assert await said(remote, site, UvEnv(), "go") == "one two"
    (folder / "new").mkdir()
    (folder / "new" / "more.c").write_text("three")
    assert await deploy(remote, site, UvEnv()) == "made"
    assert await deploy(remote, site, UvEnv()) == "same"


WORKSPACE = (
    '[project]\nname = "top"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["lib"]\n'
    "[tool.uv]\npackage = false\n[tool.uv.sources]\nlib = {source}\n{more}"
)


def as_member(folder: Path) -> None:
    more = '[tool.uv.workspace]\nmembers = ["libs/*"]\n'
    (folder / "pyproject.toml").write_text(WORKSPACE.format(source="{ workspace = true }", more=more))


def as_linked(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(WORKSPACE.format(source='{ path = "libs/lib", editable = true }', more=""))


def as_copied(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(WORKSPACE.format(source='{ path = "libs/lib" }', more=""))


def as_requirement(folder: Path) -> None:
    (folder / "requirements.txt").write_text("./libs/lib\n")


def as_editable_requirement(folder: Path) -> None:
    (folder / "requirements.txt").write_text("-e ./libs/lib\n")


WAYS = (as_member, as_linked, as_copied, as_requirement, as_editable_requirement)


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_e3_a_new_entry_point_of_what_lies_beside_the_project(
    remote: ShellRemote, site: Site, folder: Path, way: Callable[[Path], None], locked: bool
) -> None:
    write_package(folder / "libs" / "lib", "lib")
    way(folder)
    if locked and (folder / "pyproject.toml").exists():
        subprocess.run([find_uv_binary().path, "lock", "-q", "--offline"], cwd=folder, check=True, env=remote.env)
    assert await deploy(remote, site, UvEnv()) == "made"
    assert await said(remote, site, UvEnv(), "go") == "one one"
    assert await deploy(remote, site, UvEnv()) == "same"
    write_package(folder / "libs" / "lib", "lib", script="go-further")
    assert await deploy(remote, site, UvEnv()) == "made"
    assert await said(remote, site, UvEnv(), "go-further") == "one one"
    assert await deploy(remote, site, UvEnv()) == "same"


@pytest.mark.parametrize("tree", ["", "pushed"])
@pytest.mark.parametrize("way", [as_copied, as_requirement])
async def test_e3_the_code_of_a_package_that_is_copied_changed(
    remote: ShellRemote, folder: Path, way: Callable[[Path], None], tree: str
) -> None:
    write_package(folder / "libs" / "lib", "lib")
    way(folder)
    assert await deploy(remote, Site(str(folder), digest=tree and "1"), UvEnv()) == "made"
    (folder / "libs" / "lib" / "lib.py").write_text("CODE = 'new'\n\n\ndef main():\n    print(CODE, TABLE)\n")
    site = Site(str(folder), digest=tree and "2")
    assert await deploy(remote, site, UvEnv()) == "made"
    assert await said(remote, site, UvEnv(), "go; python -c 'import lib; print(lib.CODE)'") == "new one\nnew"
    assert await deploy(remote, site, UvEnv()) == "same"


async def test_other_code_makes_no_other_environment(remote: ShellRemote, folder: Path) -> None:
    write_package(folder / "libs" / "lib", "lib")
    as_member(folder)
    assert await deploy(remote, Site(str(folder), digest="1"), UvEnv()) == "made"
    (folder / "libs" / "lib" / "lib.py").write_text("CODE = 'new'\n")
    site = Site(str(folder), digest="2")
    assert await deploy(remote, site, UvEnv()) == "same"
    assert await said(remote, site, UvEnv(), "python -c 'import lib; print(lib.CODE)'") == "new"
    (folder / "libs" / "lib" / "pyproject.toml").touch()  # edited on the node, to what it was
    assert await deploy(remote, site, UvEnv()) == "same"


def test_what_is_looked_at(tmp_path: Path) -> None:
    text = (
        '[project]\nname = "p"\ndynamic = ["dependencies"]\n'
        '[tool.setuptools.dynamic]\ndependencies = { file = "d.in" }\n'
        '[tool.uv]\ncache-keys = ["*.toml", { dir = "src" }, { file = "deep/**/*.h" }]\n'
        '[tool.uv.workspace]\nmembers = ["m/*"]\nexclude = ["m/no"]\n'
        '[tool.uv.sources]\na = [{ path = "a.whl", marker = "x" }, { path = "b" }]\n'
    )
    files = {"pyproject.toml": text, "d.in": "", "deep/er/x.h": "", "deep/x.py": "", "src/p.py": "", "a.whl": ""}
    files |= {f"m/{name}/pyproject.toml": "" for name in ("yes", "no")} | {
        "b/setup.py": "",
        "b/code.py": "",
        "c.py": "",
    }
    files["b/.venv/x.py"] = files["b/build/x.py"] = ""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = find(str(tmp_path), str(tmp_path), (), "")
    seen = {path[len(str(tmp_path)) + 1 :] for path, digest in found.files.items() if digest}
    wanted = {
        "pyproject.toml",
        "d.in",
        "deep/er/x.h",
        "src/",
        "a.whl",
        "m/yes/pyproject.toml",
        "b/setup.py",
        "b/code.py",
    }
    assert seen == wanted
    assert not find(str(tmp_path), str(tmp_path), (), "x").files.keys() & {str(tmp_path / "b/code.py")}
    assert find(str(tmp_path), str(tmp_path), (), "x").digest() != find(str(tmp_path), str(tmp_path), (), "y").digest()


@pytest.mark.parametrize(
    "line",
    [
        '-r "more/a b.txt"',
        "-c 'more/a b.txt'",
        "-r more/a\\ b.txt",
        "--requirement\tmore/a.txt",
        "-r more/a.txt\t# why",
        "-r {0}/more/a.txt",
    ],
)
def test_e1_an_included_file_is_found_however_its_name_is_written(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"more/a b.txt": "x", "more/a.txt": "x"})
    (tmp_path / "requirements.txt").write_text(line.format(tmp_path.as_uri()))
    found = find(str(tmp_path), str(tmp_path), (), "")
    assert any(path.startswith(str(tmp_path / "more")) and digest for path, digest in found.files.items())


@pytest.mark.parametrize(
    "pattern, file",
    [("**/*.{c,h}", "deep/x.h"), ("{a,b{1,2}}.c", "b2.c"), ("build/made.json", "build/made.json"), ("{x", "{x")],
)
def test_e2_what_a_cache_key_names_counts(tmp_path: Path, pattern: str, file: str) -> None:
    """As uv reads them: braces are alternatives, and a folder that is named is looked into."""
    key = f'[project]\nname = "p"\n[tool.uv]\ncache-keys = [{{ file = "{pattern}" }}]\n'
    write(tmp_path, {"pyproject.toml": key, file: "x", "build/other.json": ""})
    found = find(str(tmp_path), str(tmp_path), (), "").files
    assert found.get(str(tmp_path / file))
    assert str(tmp_path / "build/other.json") not in found


@pytest.mark.parametrize("table", ["[dependency-groups]\ndev =", "[tool.uv]\ndev-dependencies ="])
def test_e3_what_a_group_takes_from_beside_the_project_counts(tmp_path: Path, table: str) -> None:
    lib = tmp_path / "lib"
    text = f'[project]\nname = "p"\n{table} ["lib @ {lib.as_uri()}"]\n'
    write(tmp_path, {"pyproject.toml": text, "lib/pyproject.toml": "", "lib/code.py": "x"})
    assert find(str(tmp_path), str(tmp_path), (), "").files.get(str(lib / "code.py"))


@pytest.mark.parametrize("key", ["{ git = true }", '{ env = "X" }'])
def test_in_doubt_whatever_was_pushed_counts(tmp_path: Path, key: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    assert find(str(tmp_path), str(tmp_path), (), "1").digest() == find(str(tmp_path), str(tmp_path), (), "2").digest()
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "p"\n[tool.uv]\ncache-keys = [{key}]\n')
    assert find(str(tmp_path), str(tmp_path), (), "1").digest() != find(str(tmp_path), str(tmp_path), (), "2").digest()


def test_a_plan_is_told_the_files_that_count_or_that_nobody_can_tell(tmp_path: Path) -> None:
    project = '[project]\nname = "app"\nversion = "1"\n'
    write(tmp_path, {"app/pyproject.toml": project, "app/main.py": "", "pyproject.toml": ""})
    env = UvEnv().with_folder(tmp_path / "app")
    files = env.sources(tmp_path)
    assert files is not None
    assert {"app/pyproject.toml", "pyproject.toml"} <= set(files)
    assert "app/main.py" not in files
    assert UvEnv().sources(tmp_path) is None
    project += 'dependencies = ["dep"]\n[tool.uv.sources]\ndep = { path = "../dep" }\n'
    write(tmp_path, {"app/pyproject.toml": project, "dep/pyproject.toml": '[project]\nname = "dep"\nversion = "1"\n'})
    assert env.sources(tmp_path) is None, "the code of dep is copied: all of it counts"
