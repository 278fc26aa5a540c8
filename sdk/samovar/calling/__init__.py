"""Calling Samovar from outside of a run: the clients, and what they send."""
