"""The public face: where its names say that they come from, and what their annotations mean."""

import inspect
import pickle
import traceback
import typing

import attrs
import pytest

import asyncdeploy


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
