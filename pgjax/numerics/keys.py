"""Reserved numbers of `jax.random.fold_in(key of a seed, number)`: the keys for everything besides the updates.

Update u of a lane takes the key of number u, so a lane may have `UPDATES` updates before it would meet a reserved key.
"""

INIT = 2**31 - 1  # parameters and states before the first update
EVALUATE = 2**31 - 2  # the evaluation after training
MEASURE = 2**31 - 3  # a measurement of the laboratory
POLICY = 2**31 - 4  # parameters that the laboratory initialises
ALONG = 2**31 - 5  # evaluations along training
UPDATES = 2**31 - 5

# Of the key of an update's learning, which is split into fewer keys than these numbers.
PLAY = 2**31 - 1  # episodes that an advantage plays
VARIABLES = 2**31 - 2  # a policy's variables
START = 2**31 - 3  # of the key of a state: what the plugs and the policy remember
