"""The public face: where its names say that they come from, and what their annotations mean."""

import ast
import gc
import inspect
import pickle
import re
import subprocess
import sys
import traceback
import typing
from importlib import metadata
from pathlib import Path

import attrs
import pytest

import asyncdeploy
from asyncdeploy.values.regex import _Regex


@pytest.mark.parametrize("name", asyncdeploy.__all__)
def test_a_public_name_says_where_it_is_imported_from(name: str) -> None:
    thing = getattr(asyncdeploy, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert (thing.__module__, thing.__qualname__) == ("asyncdeploy", name)
        assert pickle.loads(pickle.dumps(thing)) is thing


@pytest.mark.parametrize("name", asyncdeploy.__all__)
def test_annotations_of_public_names_can_be_read(name: str) -> None:
    thing = getattr(asyncdeploy, name)
    typing.get_type_hints(thing)
    if inspect.isclass(thing):
        for member in vars(thing).values():
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            # What attrs generates has the annotations of converters, which stand where those were written.
            if inspect.isfunction(inner) and not inner.__code__.co_filename.startswith("<attrs"):
                typing.get_type_hints(inner)
        if attrs.has(thing):
            assert not [field.name for field in attrs.fields(attrs.resolve_types(thing)) if isinstance(field.type, str)]


def test_a_traceback_names_an_error_as_people_catch_it() -> None:
    error = asyncdeploy.ConnectionLost("gpu-1", "the line broke")
    assert traceback.format_exception_only(error)[0].startswith("asyncdeploy.ConnectionLost: gpu-1: the line broke")


def test_type_checkers_see_the_same_names_from_the_same_rooms() -> None:
    stub = ast.parse(Path(asyncdeploy.__file__).with_suffix(".pyi").read_text())
    said: dict[str, list[str]] = {}
    *lines, version = stub.body  # which stands in no room
    assert ast.unparse(version) == "__version__: str"
    for line in lines:
        assert isinstance(line, ast.ImportFrom)
        assert line.module
        assert all(name.asname == name.name for name in line.names), "a stub hands on `name as name` only"
        said.setdefault(line.module.removeprefix("asyncdeploy."), []).extend(name.name for name in line.names)
    assert {room: sorted(names) for room, names in said.items()} == {
        room: sorted(names.split()) for room, names in asyncdeploy._ROOMS.items()
    }


def python(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_a_room_is_imported_when_one_of_its_names_is_asked_for() -> None:
    seen = python(
        "import sys, asyncdeploy; print('asyncssh' in sys.modules, 'Pool' in dir(asyncdeploy)); asyncdeploy.push_all;"
        "print(asyncdeploy.values.errors.ConnectionLost, 'asyncdeploy.launch.gang.watch' in sys.modules)"
    )
    # An error that nobody has asked for by its name is told of by it all the same.
    assert seen == "False True\n<class 'asyncdeploy.ConnectionLost'> False"


def test_who_runs_a_command_imports_no_push_environment_or_job() -> None:
    rooms = ("push", "envs", "collect", "launch", "deploy", "run.job", "values.workspace")
    seen = python(
        f"import sys, asyncdeploy; asyncdeploy.run_all; print([room for room in {rooms} "
        "if f'asyncdeploy.{room}' in sys.modules])"
    )
    assert seen == "[]"


def test_the_version_is_the_metadatas_and_looked_up_when_it_is_asked_for() -> None:
    said = "'importlib.metadata' in sys.modules"
    seen = python(f"import sys, asyncdeploy; print({said}, asyncdeploy.__version__, {said}, asyncdeploy.Node.__name__)")
    assert seen == f"False {metadata.version('asyncdeploy')} True Node"
    assert "__version__" in dir(asyncdeploy)
    assert "__version__" not in asyncdeploy.__all__


def test_the_version_of_what_was_never_installed_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "asyncdeploy").symlink_to(Path(asyncdeploy.__file__).parent)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import asyncdeploy; print(asyncdeploy.__version__)"
    seen = subprocess.check_output([sys.executable, "-I", "-S", "-c", code], text=True).strip()
    assert seen == "0+unknown"


def test_a_name_that_is_not_there_is_said_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="module 'asyncdeploy' has no attribute 'Nodes'"):
        asyncdeploy.Nodes  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nodes' from 'asyncdeploy'"):
        exec("from asyncdeploy import Nodes")


def test_an_environment_that_nobody_imported_is_known_by_its_name() -> None:
    seen = python(
        "from asyncdeploy.envs.registry import env_from_dict, register_env;"
        "print(env_from_dict({'env': 'UvEnv'}), env_from_dict({'env': 'SystemEnv'}))\n"
        "try: register_env(type('NixEnv', (), {'from_dict': print}))\n"
        "except ValueError as error: print(error)"
    )
    assert seen.startswith("UvEnv(")
    assert "SystemEnv()" in seen
    assert seen.endswith("an environment class named 'NixEnv' is known already")


def test_expressions_are_sound() -> None:
    """Each is compiled at its first use only: a faulty one would be found by a user."""
    for name in asyncdeploy.__all__:
        getattr(asyncdeploy, name)
    found = [thing for thing in gc.get_objects() if type(thing) is _Regex]
    assert len(found) > 40
    for each in found:
        re.compile(*each._source)
