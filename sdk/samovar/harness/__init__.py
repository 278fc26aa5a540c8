"""The harness: what runs in a task container, from process 1 to the process of a run.

    boot.py        the file that process 1 is started with
    supervisor.py  process 1: the loop, and the way of an attempt
    link.py        its connection to the sidecar
    attempt.py     one attempt, as process 1 sees it
    outcome.py     what an attempt's end means
    logs.py        output as lines, bounded
    kernel.py      prctl, cgroup counters, /proc
    cleanup.py     after a run: processes killed, scratch wiped
    zygote.py      the child that has the project's modules and forks a process per run
    process.py     that process
    store.py       its side of the socketpair to process 1

Process 1 imports only what is above zygote.py, and never the project's code.
"""
