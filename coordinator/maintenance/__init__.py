"""Duties: what one coordinator at a time does again and again, as the sweep, retention and due schedules.
Promises that each can be run once by itself, at a time that is given, and that doing it twice does no harm.
The service of this room runs them, and tests.
"""
