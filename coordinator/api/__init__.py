"""The HTTP surface: thin functions that read a request, call the rooms, and wake who waits for the change.
Promises a status and an error body for everything refused, and that nothing is answered before it is durable.
The application alone mounts it.
"""
