"""The estimator laboratory: estimators, an environment and a policy in; their bias and variance out."""
