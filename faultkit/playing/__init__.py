"""A cause on a stage, under its witnesses: one run, many runs, a check, a stack of real programs."""
