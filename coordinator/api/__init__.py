"""The HTTP surface: thin functions that read a request, call the store, and wake who waits for the change."""
