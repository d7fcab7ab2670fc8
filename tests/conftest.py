"""House rules of every test: no silent rank promotion, warnings are errors (pyproject), a timeout.

Programs here are small and compiled often: LLVM's optimisations would cost more than they save, and XLA's fusion
emitters two fifths of the time.
"""

import importlib.metadata
import os

from packaging.version import Version

flags = "--xla_backend_optimization_level=0"
# An option that XLA doesn't know ends the process; jaxlib dropped this one.
if Version(importlib.metadata.version("jaxlib")) < Version("0.11.1"):
    flags += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def _as_planted(request):
    """A test that puts something in the place of the package's own code finds no older program, and leaves none."""
    if "monkeypatch" not in request.fixturenames:
        yield
        return
    _forget()
    yield
    _forget()


def _forget():
    from pgjax.engine import programs
    from pgjax.sweeps import group

    programs.KEPT.forget()
    group.REHEARSED.forget()
