"""Small values as text: durations, memory, tracebacks."""
