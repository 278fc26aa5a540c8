"""What code does inside of a run: the run itself, checkpoints, waits, child runs, and `local()`."""
