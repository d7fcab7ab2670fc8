"""Gradient estimators that the laboratory compares."""
