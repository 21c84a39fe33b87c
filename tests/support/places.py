"""Where the project lies on this machine."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HOUSE = ROOT / "asyncdeploy"
EXAMPLES = ROOT / "examples"
