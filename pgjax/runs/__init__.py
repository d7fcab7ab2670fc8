"""Runs: starts, resumes, extends and replays them, writes their folders and reads them back."""
