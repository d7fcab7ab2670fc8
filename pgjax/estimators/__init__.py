"""Estimators: functions that turn a batch into a gradient of the parameters, by name."""

from pgjax.estimators.kl_control import adaptive_kl, early_stopping
from pgjax.estimators.natural import fisher, fisher_vector_product, natural
from pgjax.estimators.selection import selected
from pgjax.estimators.surrogate import surrogate
from pgjax.estimators.tabular import exact_relative
from pgjax.estimators.trust_region import trust_region_step

__all__ = [
    "adaptive_kl",
    "early_stopping",
    "exact_relative",
    "fisher",
    "fisher_vector_product",
    "natural",
    "selected",
    "surrogate",
    "trust_region_step",
]
