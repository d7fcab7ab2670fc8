"""Ray: a cluster that runs already, or one of our own on this machine."""

import functools
import logging
import socket

from pgjax.dependencies import importing
from pgjax.engine.machine import cores
from pgjax.executors.engine import Engine, Future
from pgjax.executors.worker import ENVIRONMENT

# Seconds in which a cluster has to answer.
PATIENCE = 10


def engine(where: str, workers: int | None) -> Engine:
    """The cluster at `where`, such as HOST:6379 or "auto"; with "" one on this machine, with one CPU for each worker.

    A call takes one CPU, and one GPU where the cluster has any.

    Raises:
      ValueError: where no cluster answers at `where`.
    """
    with importing("ray", "ray", "on: ray"):
        import ray
    if where and workers is not None:
        raise ValueError(f"workers: the cluster at {where} has its own; leave workers={workers} out")
    ours = not ray.is_initialized()
    if ours:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "runtime_env": {"env_vars": ENVIRONMENT}}
        local = {} if where else {"num_cpus": workers or cores(), "include_dashboard": False}
        try:
            _call(where)
            ray.init(where or "local", **quiet, **local)
        except (OSError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "InvalidAuthToken" in str(error.__cause__):
                raise ValueError(
                    f"on: the Ray cluster at {where!r} asks for its token, which this machine either lacks or doesn't "
                    "send; set RAY_AUTH_MODE=token in the environment"
                ) from error
            raise ValueError(f"on: no Ray cluster at {where!r} ({said}); start one by `ray start --head`") from error
    needs = {"num_cpus": 1, "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0}

    @functools.cache  # Ray sends a function to the cluster whenever it is made remote
    def remote(function):
        return ray.remote(function).options(max_retries=0, **needs)

    def submit(function, *args):
        return _Task(remote(function).remote(*args).future())

    def close(cancel=False):
        if ours:
            ray.shutdown()

    return Engine("ray", submit, None if where else workers or cores(), close=close)


class _Task(Future):
    """A Task whose error is the call's own: Ray's holds it below its whole traceback."""

    def exception(self) -> BaseException | None:
        error = super().exception()
        return getattr(error, "cause", None) or error


def _call(where: str) -> None:
    """OSError where nobody listens at the address, for which Ray would wait for minutes."""
    if where == "auto":
        with importing("ray", "ray", "on: ray"):
            from ray._private.services import canonicalize_bootstrap_address
        where = canonicalize_bootstrap_address(where) or where
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE).close()
