"""Settles which of two algorithms is better: adds seeds in rounds until a confidence sequence has the answer."""

from pgjax.settling.rounds import settle
from pgjax.settling.settlement import Settlement

__all__ = ["Settlement", "settle"]
