"""The targets, by what is read; importing this has all of them."""

from tests.fuzz.target import TARGETS
from tests.fuzz.targets import answers, homes, logs, nodes, ssh, text, trees, wire

__all__ = ["TARGETS", "answers", "homes", "logs", "nodes", "ssh", "text", "trees", "wire"]
