"""What runs wait for: sleeps, tokens, events and children, and how each is resolved.
Promises that a wait is resolved once and that the run goes on with what was stored.
Runs that end, attempts that suspend, events that come, the sweep.
"""
