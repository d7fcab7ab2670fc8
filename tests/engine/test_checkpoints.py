"""Checkpoints: a state of another kind is refused by what differs."""

import numpy as np
import pytest

from pgjax.algorithms.on_policy import LearnerState
from pgjax.engine.checkpoints import Checkpoint, Folder
from pgjax.training.loop import TrainState


def state(width, updater):
    """Of two lanes."""
    learner = LearnerState({"w": np.zeros((2, width))}, updater, (), (), (), ())
    return TrainState(learner, np.ones(2, bool), np.zeros(2, np.int32))


def test_a_state_that_does_not_fit_is_blamed_on_the_policy_only_where_its_parameters_differ(tmp_path):
    folder = Folder(tmp_path)
    folder.save(0, Checkpoint(3, state(4, {"optimizer": np.zeros(2)}), {}, {}))
    assert folder.load(0, state(4, {"optimizer": np.zeros(2)})).update == 3
    with pytest.raises(ValueError, match="policy: the parameters in .* don't fit the network; pass policy= to load"):
        folder.load(0, state(5, {"optimizer": np.zeros(2)}))
    for other in ({"optimizer": np.zeros((2, 1))}, {"descent": np.zeros(2)}, ()):
        with pytest.raises(ValueError, match="path: the state in .* differs at .*updater.*; use the pgjax and"):
            folder.load(0, state(4, other))
