"""``asyncdeploy``, ``python -m asyncdeploy``: the command line."""

from __future__ import annotations

import sys

from asyncdeploy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
