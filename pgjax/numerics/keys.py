"""Reserved numbers: what `jax.random.fold_in(key of a seed, number)` is asked for besides the updates.

Update u of a lane takes the key of number u, so a lane may have `UPDATES` updates and shares no key with the rest.
"""

INIT = 2**31 - 1  # parameters and states before the first update
EVALUATE = 2**31 - 2  # the evaluation after training
MEASURE = 2**31 - 3  # a measurement of the laboratory
POLICY = 2**31 - 4  # parameters that the laboratory initialises
UPDATES = 2**31 - 4
