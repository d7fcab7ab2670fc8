"""Polyak averaging: the policy that is evaluated and kept has an exponential mean of the parameters.

mean = decay mean + (1 - decay) theta after each gradient step; theta itself acts and learns. Polyak & Juditsky 1992,
Acceleration of stochastic approximation by averaging; theirs is the mean of all iterates, this forgets the first.

    pgjax train ppo CartPole-v1 --optimizer experiments/methods/polyak.py:polyak --set decay=0.9,0.99
"""

from pgjax import optimizers

polyak = optimizers.averaged(optimizers.adam)
