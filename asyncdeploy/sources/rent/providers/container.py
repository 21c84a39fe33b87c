"""What a rented container is started with: start.sh and the two keys that it plants."""

from __future__ import annotations

import base64
import shlex
from importlib import resources

from asyncdeploy.sources.rent.want import Order

IMAGE = "runpod/pytorch:2.8.0-py3.11-cuda12.8.1-cudnn-devel-ubuntu22.04"
"""Where nobody names one: it has sshd, CUDA and Python."""


def start_line() -> str:
    """Return the shell line."""
    return f"sh -c {shlex.quote(start_script())}"


def start_script() -> str:
    """Return start.sh without its comments, which would count against a provider's bound."""
    script = resources.files(__package__).joinpath("start.sh").read_text()
    return "\n".join(line for line in script.splitlines() if not line.startswith("#"))


def start_env(order: Order) -> dict[str, str]:
    """Return the variables that start.sh reads; everybody with the account can read them, for this rental's life."""
    host_key = base64.b64encode(order.host_private_key.encode()).decode()
    return {"AD_PUBLIC_KEY": order.public_key, "AD_HOST_KEY": host_key}
