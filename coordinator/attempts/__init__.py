"""Executions of runs: claims, starts, checkpoints, ends, and the runners that hold them.
Promises that only the newest lease token writes: anything older is refused, and changes nothing.
The fleet's side of the API, and the sweep.
"""
