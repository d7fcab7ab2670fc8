"""What the workers of peers.py that use PyTorch share: the number of threads that is best for them."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch


def settle(programs: Iterable[Callable[[int], dict]]) -> dict[str, Any]:
    """Run with PyTorch's own number of threads or with one, whichever is faster; what to say of the device.

    Products this small gain little from a second thread, and beside any other work on the machine its threads wait
    for each other: some runs took ten times as long with two.
    """
    programs, seconds = list(programs), {torch.get_num_threads(): [], 1: []}
    for number in range(2):  # the first run pays for what later ones find ready
        for threads, found in seconds.items():
            torch.set_num_threads(threads)
            began = time.perf_counter()
            for program in programs:
                program(number)
            found.append(time.perf_counter() - began)
    best = min(seconds, key=lambda threads: min(seconds[threads]))
    torch.set_num_threads(best)
    return {"platform": "cpu", "kind": "cpu", "count": 1, "threads": best, "seconds_by_threads": seconds}
