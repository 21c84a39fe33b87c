"""Say what an environment is, as one line of JSON: its Python, torch, and a digest of all that is installed.

Runs on a node by the environment's own interpreter: Python >= 3.8, standard library only. torch is not imported.
"""

import hashlib
import json
import os
import platform
import re
from importlib import metadata


def torch_cuda():
    """Return the CUDA that torch was built for, "" if for none or nobody says."""
    for file in metadata.files("torch") or ():
        if str(file).replace(os.sep, "/") == "torch/version.py":
            with open(str(file.locate())) as source:
                found = re.search(r"^cuda[^=\n]*= *'([0-9.]+)'", source.read(), re.MULTILINE)
            return found.group(1) if found else ""
    return ""


def main():
    found = {}
    for each in metadata.distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    listed = "\n".join("%s==%s" % item for item in sorted(found.items()))
    torch = found.get("torch", "")
    report = {
        "python": platform.python_version(),
        "torch": torch,
        "cuda": torch_cuda() if torch else "",
        "packages": len(found),
        "digest": hashlib.sha256(listed.encode()).hexdigest()[:16],
    }
    print(json.dumps(report, separators=(",", ":")))


if __name__ == "__main__":
    main()
