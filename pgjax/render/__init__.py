"""Plays episodes, draws their states, and writes them as a GIF or a video."""
