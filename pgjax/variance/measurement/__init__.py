"""The measurement: episodes sampled in chunks, gradients of each estimator, and their moments."""
