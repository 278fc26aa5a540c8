"""Process 1 of a task container: `python -I -S boot.py`.

Isolated and without `site`, so that nothing a project installs (.pth files, sitecustomize) runs in it.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # Python's own handler for SIGINT would let anything in the container interrupt process 1; a signal with
    # the default action is not delivered to a process 1 from inside
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from samovar.harness.supervisor import main

    code = main()
    sys.stderr.flush()
    os._exit(code)
