"""The engine: it compiles, schedules, checkpoints and resumes the chunks of lanes that a plan consists of."""
