"""One rank of a job in plain Python: all ranks add up their numbers over TCP, through rank 0, three times.

``--fail RANK`` makes that rank raise in the second round.
"""

import json
import os
import socket
import sys
import time

RANK = int(os.environ["ASYNCDEPLOY_NODE_RANK"])
SIZE = int(os.environ["ASYNCDEPLOY_NUM_NODES"])
MASTER = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
FAIL = int(sys.argv[sys.argv.index("--fail") + 1]) if "--fail" in sys.argv else -1


def join():
    """Return the lines to the other ranks: of rank 0 all, of another the one to rank 0."""
    if RANK == 0:
        with socket.create_server(MASTER, reuse_port=False) as server:
            server.settimeout(30)
            return [server.accept()[0].makefile("rw") for _ in range(SIZE - 1)]
    deadline = time.monotonic() + 30
    while True:
        try:
            return [socket.create_connection(MASTER, 30).makefile("rw")]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read(line):
    """Return the next number on a line; EOFError when the rank at its other end is gone."""
    text = line.readline()
    if not text:
        raise EOFError("a peer closed its connection")
    return json.loads(text)


def all_reduce(lines, value):
    """Return the sum of every rank's value, on every rank."""
    if RANK == 0:
        total = value + sum(read(line) for line in lines)
        for line in lines:
            line.write(json.dumps(total) + "\n")
            line.flush()
        return total
    (line,) = lines
    line.write(json.dumps(value) + "\n")
    line.flush()
    return read(line)


def main():
    lines = join()
    total = 0
    for step in range(3):
        if RANK == FAIL and step == 1:
            raise RuntimeError("injected failure: rank %d gives up in step %d" % (RANK, step))
        total = all_reduce(lines, RANK + step)
        print("rank %d of %d: step %d, sum over all nodes %d" % (RANK, SIZE, step, total), flush=True)
    os.makedirs("results", exist_ok=True)
    with open("results/sum.json", "w") as file:
        json.dump({"rank": RANK, "sum": total}, file)


main()
