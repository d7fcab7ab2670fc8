"""Each experiment runs at its smoke size."""

import pathlib
import runpy

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parent.parent / "experiments"


@pytest.mark.slow
def test_my_loss(tmp_path):
    runs = runpy.run_path(EXPERIMENTS / "my_loss.py")["main"](["--smoke", "--out", str(tmp_path)])
    assert set(runs) == {"ppo", "kl_penalised"}
    assert (tmp_path / "kl_penalised" / "summary.json").is_file()


@pytest.mark.slow
def test_train_cartpole():
    final = runpy.run_path(EXPERIMENTS / "train_cartpole.py")["main"](smoke=True)
    assert final.shape == (2, 32) and np.isfinite(final).all()
