"""What compiles the code of an image: given to a builder's Python with `-c`, without site, in an image of which
nothing is the project's. Python 3.9 has to do.

    -c ... COMPILED SDK TREE...      byte code goes below COMPILED as if that were the root; where SDK is one of the
                                     trees, the bundle of its harness as well (sdk/samovar/harness/bundle.py)

Byte code is made without a check against its source: nothing in a finished image changes.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import sys

if __name__ == "__main__":
    prefix, sdk, trees = sys.argv[1], sys.argv[2], sys.argv[3:]
    sys.pycache_prefix = prefix
    for tree in trees:
        # a file that does not compile is only an error where it is imported, and the index says so then
        compileall.compile_dir(tree, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    if sdk in trees:
        # by an interpreter that has imported nothing but what a container's has
        program = "import sys; sys.path.insert(0, sys.argv[1])\nfrom samovar.harness import bundle\n"
        program += "with open(sys.argv[2], 'wb') as file: file.write(bundle.made())"
        given = [os.path.dirname(sdk), os.path.join(prefix, "bundle")]
        flags = ["-I", "-S", "-B", "-X", f"pycache_prefix={prefix}"]
        os.execv(sys.executable, [sys.executable, *flags, "-c", program, *given])
