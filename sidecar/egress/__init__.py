"""Egress: what tasks send to the net and get from there, in a process of its own.

The sidecar starts it, tells it what each container may reach and which attempt is bound, and hears what was
reached. It holds no token and knows no coordinator; what it reads from containers is an HTTP proxy's requests.
"""
