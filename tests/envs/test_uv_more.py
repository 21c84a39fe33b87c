"""UvEnv with the real uv: workspaces, locks, requirement files, pylock.toml, lines behind the sync, imports."""

import base64
import hashlib
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import fetch_uv, find_uv_binary, read_elf, uv_asset
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, ToolMissing
from asyncdeploy.values.workspace import Site
from tests.support.envs import write_project, write_wheel
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote


def lock(folder: Path, remote: ShellRemote, *words: str) -> None:
    """What the user does at home."""
    subprocess.run([find_uv_binary().path, *words, "--offline", "--quiet"], cwd=folder, check=True, env=remote.env)


async def modules(remote: ShellRemote, site: Site, env: UvEnv, *names: str) -> list[str]:
    """Those of the names that can be imported inside."""
    facts = await probe_node(remote)
    code = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    command = env.enter(Command.of("python", "-c", code, *names), site, facts)
    return (await run_command(remote, command, check=True)).text.split()


async def failure(remote: ShellRemote, site: Site, env: UvEnv) -> BootstrapFailed:
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, env)
    return caught.value


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"locked": True, "frozen": True}, "frozen and locked"),
        ({"upgrade": True, "frozen": True}, "upgrade"),
        ({"package": "-p"}, "package"),
        ({"requirements": "/etc/passwd"}, "requirements"),
        ({"requirements": "../up.txt"}, "requirements"),
        ({"requirements": "r.txt", "extra": "train"}, "stand for themselves"),
        ({"imports": "os; exit()"}, "imports"),
        ({"post": " "}, "post"),
    ],
)
def test_a_bad_value_is_refused_when_it_is_built(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        UvEnv(**fields)


def test_older_data_is_still_read() -> None:
    assert env_from_dict({"env": "UvEnv", "extra": ["train"]}) == UvEnv("train")
    env = UvEnv(package="a", locked=True, post="true", imports=("a", "b.c"), all_packages=True)
    assert env_from_dict(env.to_dict()) == env


def write_foreign_uv(folder: Path, machine: int, platform: str, version: str = find_uv_binary().version) -> None:
    """A wheel of uv for another machine, as small as a program can be."""
    info, program = f"uv-{version}.dist-info", bytearray(64)
    program[:6], program[18:20], program[54:56] = b"\x7fELF\x02\x01", machine.to_bytes(2, "little"), b"\x38\x00"
    digest = base64.urlsafe_b64encode(hashlib.sha256(program).digest()).rstrip(b"=").decode()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"uv-{version}-py3-none-{platform}.whl", "w") as wheel:
        script = f"uv-{version}.data/scripts/uv"
        wheel.writestr(script, bytes(program))
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{platform}\n")
        wheel.writestr(
            f"{info}/RECORD", f"{script},sha256={digest},64\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def test_a_node_of_another_kind_gets_a_uv_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched by the user's own settings, once for all nodes, and is what its wheel's record says."""
    write_foreign_uv(tmp_path / "index", 183, "musllinux_1_1_aarch64")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    fetch_uv.cache_clear()
    graviton = NodeFacts("/home/me", "me", 1000, arch="aarch64", libc="glibc 2.35")
    try:
        with ThreadPoolExecutor(4) as threads:
            assets = set(threads.map(uv_asset, [graviton, attrs.evolve(graviton, libc="musl 1.2")] * 4))
        (asset,) = assets
        assert read_elf(asset.source) == ("aarch64", "")
        assert asset.source.stat().st_size == 64
        assert asset.sha256 == hashlib.sha256(asset.source.read_bytes()).hexdigest()
        for wheel in (tmp_path / "index").iterdir():
            wheel.unlink()
        fetch_uv.cache_clear()
        assert uv_asset(graviton) == asset, "it is kept"
        asset.source.write_bytes(b"something else")
        fetch_uv.cache_clear()
        with pytest.raises(ToolMissing, match="not what its wheel says"):
            uv_asset(graviton)
        with pytest.raises(ToolMissing, match="could not be fetched"):
            uv_asset(attrs.evolve(graviton, arch="x86_64", libc="glibc 2.5"))
    finally:
        fetch_uv.cache_clear()


def test_e10_a_project_that_wants_another_uv_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("0.8.3", "0.8.4", "0.9.0"):
        write_foreign_uv(tmp_path / "index", 62, "musllinux_1_1_x86_64", version)
    for name, value in (("XDG_CACHE_HOME", "cache"), ("UV_FIND_LINKS", "index"), ("UV_CACHE_DIR", "uv-cache")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("UV_OFFLINE", "1")
    facts = NodeFacts("/h", "me", 1, arch="x86_64", libc="glibc 2.35", tools={"uv": "/opt/uv"}, uv_version="0.9.0")
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nrequired-version = ">=0.8, <0.9"\n')
    fetch_uv.cache_clear()
    try:
        env = UvEnv().with_folder(tmp_path)
        (asset,) = env.assets(Site("/srv/p"), facts)
        assert asset.name == "uv 0.8.4"
        assert asset.target in env.steps(Site("/srv/p"), facts)[0].line
        assert env.assets(Site("/srv/p"), attrs.evolve(facts, uv_version="0.8.1")) == ()
        (tmp_path / "pyproject.toml").write_text('[tool.uv]\nrequired-version = "==0.8.9"\n')
        with pytest.raises(ToolMissing, match=r"not what the project wants \(required-version ==0\.8\.9\)"):
            env.assets(Site("/srv/p"), facts)
    finally:
        fetch_uv.cache_clear()


async def test_a_package_of_a_workspace_or_all_of_them(remote: ShellRemote, site: Site, folder: Path) -> None:
    for name in ("one-lib", "two-lib"):
        package = folder / name
        package.mkdir()
        write_project(package, (f"needs-{name}",))
        text = (package / "pyproject.toml").read_text().replace('name = "proj"', f'name = "{name}"')
        (package / "pyproject.toml").write_text(text)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "root"\nversion = "1"\nrequires-python = ">=3.8"\n'
        '[tool.uv]\npackage = false\n[tool.uv.workspace]\nmembers = ["one-lib", "two-lib"]\n'
    )
    names = ("needs_one_lib", "needs_two_lib")
    before = (folder / "pyproject.toml").read_bytes()
    for env, wanted in ((UvEnv(package="one-lib"), names[:1]), (UvEnv(all_packages=True), names), (UvEnv(), ())):
        await bootstrap_env(remote, site, env)
        assert await modules(remote, site, env, *names) == list(wanted)
    assert (folder / "pyproject.toml").read_bytes() == before


async def test_a_lock_that_must_fit(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    lock(folder, remote, "lock")
    env = UvEnv(locked=True)
    await bootstrap_env(remote, site, env)
    assert await modules(remote, site, env, "one_lib", "two_lib") == ["one_lib"]
    pushed = (folder / "uv.lock").read_bytes()
    write_project(folder, ("one-lib", "two-lib"))
    assert "uv lock" in (await failure(remote, site, env)).hint
    assert (folder / "uv.lock").read_bytes() == pushed
    (folder / "uv.lock").write_text("this is no lock")
    assert "uv lock" in (await failure(remote, site, UvEnv(frozen=True))).hint


async def test_requirement_files_by_name(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))  # there is a project, which is not meant
    for name in ("a-lib", "b-lib", "c-lib"):
        write_wheel(folder / "wheels", name)
    (folder / "req").mkdir()
    options = "--no-index\n--find-links ../wheels\n"
    (folder / "req" / "it's a.txt").write_text(f"{options}a-lib\n")
    (folder / "req" / "b.txt").write_text(f"{options}b-lib\n")
    env = UvEnv(requirements=("req/it's a.txt", "req/b.txt"))
    await bootstrap_env(remote, site, env)
    names = ("a_lib", "b_lib", "c_lib", "one_lib")
    assert await modules(remote, site, env, *names) == ["a_lib", "b_lib"]
    remote.events.clear()
    await bootstrap_env(remote, site, env)
    assert "= unchanged" in [getattr(event, "detail", "") for event in remote.events]
    (folder / "req" / "b.txt").write_text(f"{options}c-lib\n")
    await bootstrap_env(remote, site, env)
    assert "c_lib" in await modules(remote, site, env, *names)
    assert "no req/none.txt" in (await failure(remote, site, UvEnv(requirements="req/none.txt"))).evidence


async def test_a_pylock_without_a_project(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib", "two-lib"))
    lock(folder, remote, "lock")
    lock(folder, remote, "export", "--format", "pylock.toml", "-o", "pylock.toml", "--no-header")
    for name in ("pyproject.toml", "uv.lock"):
        (folder / name).unlink()
    await bootstrap_env(remote, site, UvEnv())
    assert await modules(remote, site, UvEnv(), "one_lib", "two_lib") == ["one_lib", "two_lib"]


async def test_lines_behind_the_sync_run_inside(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    env = UvEnv(post="python -c 'import one_lib; print(one_lib.NAME)' >made; test -n \"$VIRTUAL_ENV\"")
    await bootstrap_env(remote, site, env)
    assert (folder / "made").read_text() == "one-lib\n"
    error = await failure(remote, site, UvEnv(post="echo so it goes; exit 7"))
    assert (error.status, error.evidence) == (7, "so it goes")
    assert error.step.startswith("post: ")


async def test_what_cannot_be_imported_is_named_with_what_was_meant(
    remote: ShellRemote, site: Site, folder: Path
) -> None:
    write_project(folder, ("one-lib",), train=("flash-lib",))
    await bootstrap_env(remote, site, UvEnv("train", imports=("one_lib", "flash_lib", "json.decoder")))
    error = await failure(remote, site, UvEnv(imports=("one_lib", "flash_lib", "one_libb", "breaks")))
    assert "cannot import flash_lib: ModuleNotFoundError" in error.evidence
    assert "(UvEnv('train') would bring it)" in error.evidence
    assert "(did you mean one_lib?)" in error.evidence
    assert "cannot import one_lib:" not in error.evidence
    (folder / "breaks.py").write_text("raise SystemExit('I will not')\n")
    assert "SystemExit: I will not" in (await failure(remote, site, UvEnv(imports="breaks"))).evidence


@pytest.mark.parametrize("env", [UvEnv(frozen=False), UvEnv(upgrade=True)], ids=["not frozen", "upgrade"])
async def test_p2_a_pushed_lock_that_uv_brought_up_to_date_is_no_persons_edit(
    remote: ShellRemote, tmp_path: Path, env: UvEnv
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_project(source, ("one-lib",))
    lock(source, remote, "lock")
    pushed = (source / "uv.lock").read_bytes()
    write_project(source, ("one-lib", "two-lib"))  # the lock knows nothing of it
    site = await push_code(remote, source)
    await bootstrap_env(remote, site, env)
    assert Path(site.path, "uv.lock").read_bytes() != pushed
    (source / "a.py").write_text("new")
    await push_code(remote, source)
    await bootstrap_env(remote, site, env)
    assert details(remote.events, "env")[-1] == "= unchanged"
