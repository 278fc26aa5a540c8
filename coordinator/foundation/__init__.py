"""Words and numbers that every room shares: errors, limits, states, ids, files, logging.
Promises to know nothing of the database, of HTTP or of any task.
Everyone may call it.
"""
