"""Rents in a process of its own; at one of its writes to the disk it dies by KILL, or the disk is full from then on.

Counted are each line of the ledger before it is written, before it is on the disk and after that, and each file that is
taken away or takes its place. Arguments: dialect, url, port, at which, and "KILL" or "ENOSPC". Prints how many there
were when it comes through.
"""

import asyncio
import contextlib
import errno
import os
import signal
import sys
from typing import Any

from asyncdeploy.sources.rent.errors import NotGivenBack, ProviderError, RentFailed
from asyncdeploy.sources.rent.giving_back import Patience
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.providers.lambda_cloud import LambdaCloud
from asyncdeploy.sources.rent.providers.prime import PrimeIntellect
from asyncdeploy.sources.rent.providers.runpod import RunPod
from asyncdeploy.sources.rent.providers.vast import Vast
from asyncdeploy.sources.rent.rent import rent
from asyncdeploy.sources.rent.want import Want

PATIENCE = Patience(poll_s=0.05, settle_s=1.0, end_s=4.0)
WANT = Want("A", gpus=2, nodes=2, usd_per_hour=2 * 1.5 + 0.1, together=False)
BOOT_S = 6.0


def provider_of(dialect: str, url: str, port: int) -> Provider:
    match dialect:
        case "runpod":
            return RunPod(api_key="key", base_url=url, spacing_s=0.0)
        case "vast":
            return Vast(api_key="key", base_url=url, spacing_s=0.0, create_s=0.0)
        case "lambda":
            return LambdaCloud(api_key="key", base_url=url, user="root", port=port, spacing_s=0.0, launch_s=0.0)
        case _:
            return PrimeIntellect(api_key="key", base_url=url, spacing_s=0.0)


class Dying:
    """Ends the process at its n-th write; or fails that one and all after it."""

    def __init__(self, at: int, is_full: bool) -> None:
        self._at = at
        self._is_full = is_full
        self.count = 0
        self._fsync = os.fsync
        self._write = os.write
        os.fsync = self.fsync
        os.write = self.write
        sys.addaudithook(self.hear)

    def fsync(self, fd: int) -> None:
        self.step()
        self._fsync(fd)
        self.step()

    def write(self, fd: int, data: bytes) -> int:
        if data.lstrip()[:5] == b'{"v":':  # a line of the ledger
            self.step()
        return self._write(fd, data)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        ours = (".ledger", ".key", ".rental", ".known_hosts")
        if event == "os.remove" and str(args[0]).endswith(ours) and not self._is_full:  # needs no room
            self.step()
        if event == "os.rename" and str(args[1]).endswith(ours):
            self.step()

    def step(self) -> None:
        self.count += 1
        if self._is_full and self.count >= self._at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(dialect: str, url: str, port: str, at: str, how: str) -> None:
    dying = Dying(int(at), how == "ENOSPC")
    with contextlib.suppress(RentFailed, NotGivenBack, ProviderError, OSError):
        async with rent(
            [provider_of(dialect, url, int(port))], WANT, for_s=3600, boot_s=BOOT_S, owner="me", patience=PATIENCE
        ):
            pass
    print(dying.count)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
