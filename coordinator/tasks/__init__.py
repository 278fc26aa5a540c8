"""What a task declares, as its index says it: options, schedules, filters, retries, the check of payloads.
Promises to be pure: no rows, no clock but what it is given.
Whoever reads an index, a payload or a filter.
"""
