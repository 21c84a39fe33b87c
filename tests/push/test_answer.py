"""Words of a node that are no answer."""

import pytest

from asyncdeploy.push.answer import read_answer
from asyncdeploy.values.errors import ProtocolError, WorkspaceConflict


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "same",
        "same|rel",
        "done|/x",
        "done|/x|-1|0|0|0",
        "what|/x",
        "full|/x|1",
        "conflict|/x|odd",
        "same|/x" + "|y" * 99,
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error(payload: str) -> None:
    with pytest.raises(ProtocolError, match="not what its program sends"):
        read_answer("n", payload.replace("|", "\0").encode())


def test_h4_a_nodes_words_do_not_drive_the_terminal() -> None:
    with pytest.raises(WorkspaceConflict) as caught:
        read_answer("n", b"conflict\0/x\0edited\0" + b"1\0\x1b[2J" + b"y" * 5000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1500
