"""Runs from trigger to end: plans, triggers, batches, admission, children, endings, views and logs.
Promises that a run is made once per key and that what follows from its end is in the same transaction.
Attempts, sources, duties and the API.
"""
