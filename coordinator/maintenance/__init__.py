"""Duties that no request carries out: each has a run-once that takes the time, so that tests need not wait."""
