"""Process 1 of a task container: `python -I -S boot.py`.

Isolated and without `site`, so that nothing a project installs (.pth files, sitecustomize) runs in it.
"""

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of them, which takes a dozen modules
import gc
import marshal
import os
import sys

if __name__ == "__main__":
    # Python's own handler for SIGINT would let anything in the container interrupt process 1; a signal with
    # the default action is not delivered to a process 1 from inside
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    gc.disable()  # until what is imported here is out of its reach (Supervisor.start)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(os.path.dirname(here)))
    try:
        with open(os.path.join(here, "bundle"), "rb") as file:
            made_by, modules = marshal.load(file)
            if made_by == (sys.version, os.path.dirname(os.__file__)):
                code = file.read()
                # (bundle.py, which can't be imported before it is there)
                _, _, start, end = modules["samovar.harness.bundle"]
                names = {"__name__": "samovar.harness.bundle"}
                exec(marshal.loads(code[start:end]), names)
                names["install"](modules, code)  # type: ignore[operator]
                del code
    except (OSError, ValueError, TypeError, KeyError, EOFError):
        pass  # made for another Python, or not at all: each module is read by itself
    from samovar.harness.supervisor import main

    status = main()
    sys.stderr.flush()
    os._exit(status)
