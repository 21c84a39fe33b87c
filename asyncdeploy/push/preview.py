"""What a push would do to a node, found without changing anything there."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from asyncdeploy.node_side.push.preview import COUNTS
from asyncdeploy.push.answer import MAX_FIELDS, MAX_SHOWN, read_answer
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.push import push_arguments
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.push.sh.preview import preview_by_sh
from asyncdeploy.push.transfer import Transfer
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_program
from asyncdeploy.values.errors import DeployError, ProtocolError
from asyncdeploy.values.words import one_line


@attrs.frozen
class Preview:
    """What a push would do.

    Attributes:
        path: the site, absolute on the node.
        placed / removed: names that would be put in place and taken away.
        restored / overwritten: names that were removed or edited there, and would be brought back or lost.
        contents / bytes: what would travel, before it is compressed.
        at_most: whether less may travel, because of a large file only what has changed does.
        begun: whether an earlier push died in its last step, which is finished first.
        touches: whether it would change what an environment is made from, or takes anything away.
        names: some of the names, as "removed PATH" and "overwritten PATH".
        refusal: why the push would be refused, None if nothing stands in its way.
    """

    path: str
    placed: int = 0
    removed: int = 0
    restored: int = 0
    overwritten: int = 0
    contents: int = 0
    bytes: int = 0
    at_most: bool = False
    begun: bool = False
    touches: bool = False
    names: tuple[str, ...] = ()
    refusal: DeployError | None = attrs.field(default=None, eq=False)

    @property
    def changes(self) -> bool:
        """Whether the push would change anything."""
        return bool(self.placed or self.removed or self.begun)


async def preview_push(remote: Remote, bundle: Bundle, sources: Sequence[str] = ()) -> Preview:
    """Return what a push of a bundle would do to a node; nothing there is changed.

    Args:
        remote: the node.
        bundle: what would be pushed.
        sources: paths of the workspace that an environment is made from, beside those that go by their names.

    Raises:
        ProtocolError: the answer is no preview.
        ToolMissing: a node without python3 has not even stat or sha256sum.
        NoShell, ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.

    On cancellation there is nothing to undo.
    """
    if not await has_python(remote):
        return read_preview(remote.node.name, await preview_by_sh(remote, bundle, sources))
    args = b"\0".join([push_arguments(bundle, "plan"), *map(os.fsencode, sources)])
    async with call_program(remote, "push.preview", args) as call:
        return read_preview(remote.node.name, await Transfer(remote, Crew(bundle), bundle).run(call))


def read_preview(node: str, payload: bytes) -> Preview:
    """Return what a look answered.

    Raises:
        ProtocolError: it is no preview.
    """
    try:
        return _read(node, payload.split(b"\0"))
    except (ValueError, IndexError) as error:
        text = f"the answer to a look before a push is not what its program sends: {error}"
        raise ProtocolError(node, text, "", one_line(payload)) from None


def _read(node: str, fields: list[bytes]) -> Preview:
    path = fields[1].decode("utf-8", "surrogateescape")
    if not path.startswith("/") or len(fields) > 2 * MAX_FIELDS:
        raise ValueError(f"an absolute path and at most {2 * MAX_FIELDS} fields were expected")
    if fields[0] == b"same" and len(fields) == 2:
        return Preview(path)
    if fields[0] != b"plan":
        raise ValueError(f"same or plan was expected, got {one_line(fields[0])!r}")
    placed, removed, restored, overwritten, contents, size, mends, begun, touches = map(_count, fields[2 : 2 + COUNTS])
    rest = fields[2 + COUNTS :]
    at = rest.index(b"") if b"" in rest else len(rest)
    names = tuple(one_line(name, MAX_SHOWN) for name in rest[:at])
    refusal = _refusal(node, b"\0".join(rest[at + 1 :])) if rest[at + 1 :] else None
    sums = (placed, removed, restored, overwritten, contents, size)
    return Preview(path, *sums, bool(mends), bool(begun), bool(touches), names, refusal)


def _refusal(node: str, payload: bytes) -> DeployError:
    try:
        read_answer(node, payload)
    except ProtocolError as error:
        raise ValueError(error.message) from None
    except DeployError as error:
        return error
    raise ValueError("a refusal was expected")


def _count(field: bytes) -> int:
    if not field.isdigit() or len(field) > 18:
        raise ValueError(f"a count was expected, got {one_line(field)!r}")
    return int(field)
