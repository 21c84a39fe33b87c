"""Who has not installed the extra [rent] can use all else, and is told what to install."""

import subprocess
import sys

SCRIPT = """\
import importlib.util, sys
sys.modules["aiohttp"] = None
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "aiohttp" else found(name, *rest)
from asyncdeploy import *
try:
    RunPod(api_key="x")
except DeployError as error:
    print(error.describe())
"""


def test_without_aiohttp_all_names_are_there_and_a_provider_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (
        "runpod: aiohttp is needed to ask it\nhint: pip install 'asyncdeploy[rent]'\n",
        "",
    )
