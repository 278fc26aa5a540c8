"""Programs that a Python with the peers in it runs; each prints one JSON document."""
