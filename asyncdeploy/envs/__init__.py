"""How a node becomes able to run a project: environments are values, known to JSON by the names of their classes."""

from __future__ import annotations

from asyncdeploy.envs.base import Asset, Env, Step
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.envs.nix import NixEnv
from asyncdeploy.envs.registry import env_from_dict, register_env
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv

__all__ = ["Asset", "DockerEnv", "Env", "NixEnv", "Step", "SystemEnv", "UvEnv", "env_from_dict", "register_env"]


register_env(DockerEnv)
register_env(NixEnv)
register_env(UvEnv)
register_env(SystemEnv)
