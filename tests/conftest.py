"""House rules of every test: no silent rank promotion, warnings are errors (pyproject), a timeout."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
