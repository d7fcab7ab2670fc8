"""Reserved numbers of `jax.random.fold_in(key of a seed, number)`: the keys for everything besides the updates.

Update u of a lane takes the key of number u, so a lane may have `UPDATES` updates before it would meet a reserved key.
"""

INIT = 2**31 - 1  # parameters and states before the first update
EVALUATE = 2**31 - 2  # the evaluation after training
MEASURE = 2**31 - 3  # a measurement of the laboratory
POLICY = 2**31 - 4  # parameters that the laboratory initialises
UPDATES = 2**31 - 4
