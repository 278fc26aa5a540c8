"""History: what ended and how, kept as facts and folded into hours and days, and into groups of errors.
Promises that an end is counted once, whatever becomes of the coordinator that counts it.
Ends of runs and attempts write facts; the duty `observe` folds them; the API and pages read.
"""
