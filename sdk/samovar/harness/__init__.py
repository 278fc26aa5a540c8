"""The harness: what runs in a task container, from process 1 to the process of a run.

    boot.py        the file that process 1 is started with
    bundle.py      the modules of a start in one file
    supervisor.py  process 1: the loop, and the way of an attempt
    link.py        its connection to the sidecar
    attempt.py     one attempt, as process 1 sees it
    outcome.py     what an attempt's end means
    logs.py        output as lines, bounded
    kernel.py      prctl, and what processes there are
    gauges.py      what it asks the kernel in every run
    places.py      places on loopback for what a run reaches, at which the sidecar listens
    listeners.py   the same, at which process 1 listens
    egress.py      which of both there is, and the relay of the run in progress
    cleanup.py     after a run: processes killed, scratch wiped
    relay.py       a run's way out, once it connects: its bytes to the sidecar and back
    zygote.py      the child that has the project's modules and forks a process per run
    process.py     that process
    keeping.py     the process that is kept for the runs of inline tasks, as the zygote has it
    kept.py        that process
    store.py       its side of the socketpair to process 1

Process 1 imports only what is above relay.py, and never the project's code.
"""
