#!/usr/bin/env bash
# distributed 2026.8.0: when the scheduler goes away, a future that was running ends as cancelled, and `future.exception()`
# is None, as it is of a call that went well. A program that takes "done() and no exception()" for success, as with
# concurrent.futures (whose exception() of a cancelled future raises CancelledError), counts work as done that never was.
# Seen: status "cancelled", done() True, exception() None; the standard library's future raises CancelledError.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "distributed==2026.8.0" "dask==2026.8.0"
cat >"$place/seen.py" <<'PY'
import concurrent.futures
import logging
import subprocess
import sys
import time
import warnings

from distributed import Client

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

if __name__ == "__main__":
    folder = sys.argv[1]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", f"{folder}/file"],
        stderr=subprocess.DEVNULL,
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", f"{folder}/file", "--no-dashboard", "--nworkers", "1"],
        stderr=subprocess.DEVNULL,
    )
    client = Client(scheduler_file=f"{folder}/file", timeout=60)
    client.wait_for_workers(1, timeout=60)
    future = client.submit(time.sleep, 600)
    while not any(client.processing().values()):
        time.sleep(0.1)
    scheduler.kill()
    worker.kill()
    for _ in range(600):
        if future.done():
            break
        time.sleep(0.1)
    print(f"status {future.status}, done {future.done()}, exception {future.exception()}")
    assert (future.status, future.done(), future.exception()) == ("cancelled", True, None)
    own = concurrent.futures.Future()
    own.cancel()
    try:
        own.exception()
    except concurrent.futures.CancelledError:
        print("concurrent.futures: CancelledError")
    else:
        raise AssertionError("the standard library has changed")
    sys.stdout.flush()
    import os

    os._exit(0)
PY
"$place/venv/bin/python" "$place/seen.py" "$place"
