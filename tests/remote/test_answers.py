"""What a node answers is taken apart by readers that keep what they promise."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.remote.answers import Answer
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.serialize import MAX_DEPTH, MAX_WHOLE

READERS: dict[str, tuple[Callable[[Answer], Any], Callable[[Any], bool]]] = {
    "object": (Answer.object, lambda found: isinstance(found, dict)),
    "items": (Answer.items, lambda found: all(isinstance(each, Answer) for each in found)),
    "number": (Answer.number, lambda found: isinstance(found, float) and math.isfinite(found)),
    "moment": (Answer.moment, lambda found: found is None or 0 <= found < 1e12),
    "whole": (Answer.whole, lambda found: type(found) is int and 0 <= found <= MAX_WHOLE),
    "flag": (Answer.flag, lambda found: isinstance(found, bool)),
    "text": (Answer.text, lambda found: found.isprintable() and len(found) <= 400),
    "exact": (Answer.exact, lambda found: isinstance(found, str)),
    "word": (lambda answer: answer.word("a", "b"), lambda found: found in ("a", "b")),
    "field": (lambda answer: answer["a"], lambda found: found.place == "a"),
}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["a", 10**400])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=12,
)


def read(value: Any) -> Answer:
    return Answer.read("gpu-1", "where it stands", json.dumps(value).encode())


def refusal_or(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the ProtocolError that it raises."""
    try:
        return call()
    except ProtocolError as error:
        return error


@pytest.mark.parametrize("name", READERS)
@given(value=JSON)
@settings(deadline=None)
def test_a_reader_returns_what_it_promises_or_names_the_node(name: str, value: Any) -> None:
    reader, fits = READERS[name]
    found = refusal_or(lambda: reader(read(value)))
    if isinstance(found, ProtocolError):
        assert found.node == "gpu-1"
        assert found.message.startswith("the answer to where it stands is not what its program sends: ")
    else:
        assert fits(found)


@given(payload=st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_json_or_refused(payload: bytes) -> None:
    found = refusal_or(lambda: Answer.read("gpu-1", "where it stands", payload))
    assert isinstance(found, Answer) or "JSON was expected" in found.message


def test_an_error_says_where_what_was_expected_and_what_came() -> None:
    answer = read({"rows": [{"pid": 7}, {"pid": "7\x1b[2J"}], "more": None})
    assert [row["pid"].value for row in answer["rows"].items(2)] == [7, "7\x1b[2J"]
    with pytest.raises(ProtocolError) as caught:
        answer["rows"].items()[1]["pid"].whole(1, 10)
    assert caught.value.message == (
        "the answer to where it stands is not what its program sends: "
        'rows[1].pid: a whole number from 1 to 10 was expected, got "7\\\\u001b[2J"'.replace("\\\\", "\\")
    )
    assert caught.value.evidence.startswith('{"rows": [{"pid": 7}')
    for wrong, text in (
        (lambda: answer["more"].text(), "more: a text was expected, got nothing"),
        (lambda: answer["rows"].items(3), "rows: a list of 3 was expected, got a list of 2"),
        (lambda: answer["rows"].text(), "rows: a text was expected, got a list of 2"),
        (lambda: answer.number(), "a number was expected, got an object"),
        (lambda: read(True).whole(), "a whole number from 0 was expected, got true"),
        (lambda: read(7).number(0, 5), "a number from 0 to 5 was expected, got 7"),
        (lambda: read("c").word("a", "b"), 'a or b was expected, got "c"'),
    ):
        with pytest.raises(ProtocolError) as caught:
            wrong()
        assert caught.value.message.endswith(f"its program sends: {text}")


def test_what_is_absent_has_a_default_only_where_one_is_given() -> None:
    answer = read({})
    assert not answer["a"].is_there
    assert (answer["a"].text("none"), answer["a"].exact(""), answer["a"].flag()) == ("none", "", False)
    assert answer["a"].moment() is None


@pytest.mark.parametrize("depth,is_taken", [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)])
def test_the_depth_of_an_answer_is_bounded(depth: int, is_taken: bool) -> None:
    payload = b"[" * depth + b"]" * depth
    if is_taken:
        assert Answer.read("gpu-1", "it", payload).items(1)
    else:
        with pytest.raises(ProtocolError):
            Answer.read("gpu-1", "it", payload)
