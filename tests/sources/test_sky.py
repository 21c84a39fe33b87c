"""The nodes of a SkyPilot cluster, from what SkyPilot writes."""

from pathlib import Path

import pytest

from asyncdeploy.sources.sky import sky_nodes

BLOCK = """\
# Added by sky (use `sky stop/down mine` to remove)
Host {alias}
  HostName 10.0.0.{number}
  User ubuntu
  IdentityFile ~/.ssh/sky-key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile=/dev/null
  Port 22
"""


def test_the_head_is_first_and_workers_are_counted(tmp_path: Path) -> None:
    aliases = ["mine-worker10", "mine-worker2", "mine", "mine-worker1", "mine-workers", "other"]
    blocks = [BLOCK.format(alias=alias, number=number) for number, alias in enumerate(aliases)]
    (tmp_path / "mine").write_text("\n".join(blocks))
    nodes = sky_nodes("mine", folder=tmp_path)
    assert [node.host for node in nodes] == ["mine", "mine-worker1", "mine-worker2", "mine-worker10"]


def test_what_is_no_cluster_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sky launch"):
        sky_nodes("gone", folder=tmp_path)
    (tmp_path / "empty").write_text("Host other\n")
    with pytest.raises(ValueError, match="Host empty"):
        sky_nodes("empty", folder=tmp_path)
    with pytest.raises(ValueError, match="name"):
        sky_nodes("../passwd", folder=tmp_path)
