"""Pure numerical functions: returns, running moments, KL estimates, scans and solvers."""
