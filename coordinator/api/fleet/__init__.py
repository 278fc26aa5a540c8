"""The part of the HTTP surface that runners and sidecars call.
Promises that what an attempt writes is checked against its lease before anything is stored.
Runners and sidecars, with a runner's key or an attempt's secret.
"""
