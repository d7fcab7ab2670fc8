"""The engine: compiles, schedules, trains and checkpoints the chunks of lanes of a plan."""
