"""The line of queued runs: queues with their limits, lanes, and whose turn it is.
Promises that limits are counted from rows under a lock and hold exactly, however many claim at once.
Whoever queues a run, and claims.
"""
