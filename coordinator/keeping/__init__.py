"""Which idle containers are kept, whether to wait for a busy one, and what another memory would have changed.
Promises to be pure: times come in, names and figures come out; nothing is started, no row is read.
The runner's pool, the coordinator's what-if and the benchmarks: one class for all of them.
"""
