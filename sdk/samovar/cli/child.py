"""Runs one module as a child that does not outlive its parent: `child.py PARENT SIGNAL MODULE [ARGUMENT...]`.

Run by path, so that a list of processes shows which is which. The kernel sends SIGNAL (a number) to this process
when the thread that started it ends, even by SIGKILL; where that has happened already the parent is another one by
now.
"""

import ctypes
import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sys.argv[2]))
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
    # the module sees itself as its program
    del sys.argv[:3]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
