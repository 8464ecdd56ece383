"""Wait until a Ray cluster has its nodes: wait_for_nodes.py HOST:PORT NODES MINUTES."""

import socket
import sys
import time

import ray

POLL = 1  # seconds


def wait_for_head(address: str, end: float) -> None:
    """Wait until something listens at an address.

    Raises:
        OSError: nothing does when the time is over.
    """
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port)), POLL).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL)
        else:
            return


def count_workers() -> int:
    """The nodes with cores for work, which the head does not have."""
    return sum(node["Alive"] and "CPU" in node["Resources"] for node in ray.nodes())


def main() -> None:
    address, nodes, minutes = sys.argv[1:]
    end = time.monotonic() + 60 * int(minutes)
    try:
        wait_for_head(address, end)
    except OSError as error:
        sys.exit(f"error: the head did not start ({error}): see .cache/ray/head.log")
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    while count_workers() < int(nodes):
        if time.monotonic() > end:
            sys.exit(f"error: SLURM did not start {nodes} nodes within {minutes} minutes")
        time.sleep(POLL)


if __name__ == "__main__":
    main()
