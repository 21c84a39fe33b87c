"""``python -m asyncdeploy``: the demo."""

from __future__ import annotations

import argparse
import asyncio
import sys

from asyncdeploy.cli.demo import run_demo
from asyncdeploy.nodes.report import FleetError
from asyncdeploy.values.errors import DeployError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 failed, 2 usage, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="asyncdeploy", description="From N machines you can ssh to, to a running job."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    demo = verbs.add_parser(
        "demo", help="the whole way once: push, environment, a job over all nodes, results, a failure"
    )
    demo.add_argument("--hosts", help="real machines instead of four local ones: a,b or root@gpu[01-04]:22")
    demo.add_argument("--accept-new", action="store_true", help="record host keys that are not known yet")
    demo.add_argument("--results", default=None, help="folder for the results (default: a temporary one)")
    args = parser.parse_args(argv)
    try:
        return asyncio.run(run_demo(args.hosts, accept_new=args.accept_new, results=args.results))
    except KeyboardInterrupt:
        return 130
    except (DeployError, FleetError) as error:
        print(f"error: {error.describe()}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
