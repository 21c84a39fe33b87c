"""Hostfiles as OpenMPI and DeepSpeed write them."""

import re
from pathlib import Path

import pytest

from asyncdeploy.nodes.parse import Node, NodeNote, read_hostfile


def hostfile(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_hostfile_as_openmpi_and_deepspeed_write_it(tmp_path: Path) -> None:
    text = "\ufeff# the fleet\r\n\r\nworker-1 slots=8\r\nroot@h:2222\tslots = 4  # half\n"
    text += "\nx[01-02] slots=2\nplain\n[::1]:22 slots=1"
    assert read_hostfile(hostfile(tmp_path, text)) == (
        Node("worker-1", slots=8),
        Node("h", user="root", port=2222, slots=4),
        Node("x01", slots=2),
        Node("x02", slots=2),
        Node("plain"),
        Node("::1", port=22, slots=1),
    )


def test_a_number_after_the_host_is_a_port_and_no_mpich_count(tmp_path: Path) -> None:
    assert read_hostfile(str(hostfile(tmp_path, "h:8\n"))) == (Node("h", port=8),)


def test_max_slots_has_no_effect_and_a_note_says_so(tmp_path: Path) -> None:
    path = hostfile(tmp_path, "a slots=2 max_slots=4\nb max-slots=4 slots=2\n")
    with pytest.warns(NodeNote, match="max_slots=4 in line 1, max-slots=4 in line 2") as notes:
        assert read_hostfile(path) == (Node("a", slots=2), Node("b", slots=2))
    assert [note.filename for note in notes] == [__file__]


@pytest.mark.parametrize(
    "text,line,expected",
    [
        ("a\nb slots=0\n", 2, "Node slots"),
        ("a slots=x\n", 1, "'host slots=8' was expected, got 'slots=x'"),
        ("a slots=2 slots=3\n", 1, "'slots=3'"),
        ("a 8\n", 1, "'8'"),
        ("\n\na gpus=8\n", 3, "'gpus=8'"),
        ("slots=8\n", 1, "host name"),
        ("ok\nroot@h:x slots=8\n", 2, "a port"),
        ("ok\nh\x0b slots=8\n", 2, "host name"),
        (b"ok\n\xff\n", 2, "utf-8"),
        ("gpu[1-20000]\n", 1, "more names"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, text: str | bytes, line: int, expected: str) -> None:
    path = hostfile(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        read_hostfile(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_host_given_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hosts: two nodes are called 'a' \(line 1 and line 3\)"):
        read_hostfile(hostfile(tmp_path, "a slots=2\n\na slots=2\n"))


@pytest.mark.parametrize("text", ["", "# nobody\n"])
def test_an_empty_hostfile_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="at least one line"):
        read_hostfile(hostfile(tmp_path, text))


def test_a_hostfile_that_is_missing_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_hostfile(tmp_path / "none")
    with pytest.raises(ValueError, match="at most 4194304 bytes"):
        read_hostfile(hostfile(tmp_path, b"#" * (4 << 20) + b"\n"))
