"""House rules of every test: no silent rank promotion, warnings are errors (pyproject), a timeout.

Programs here are small and compiled often: LLVM's optimisations would cost more than they save.
"""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
