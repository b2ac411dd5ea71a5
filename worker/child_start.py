"""Entry point of the child process: ``python -m worker.child_start`` and the arguments of ``worker.child.main``.

It imports what every series needs. What only some need (measuring, volumes, a model) is imported for the first of them.
"""

import sys

from dicom_core.quick_imports import quick_imports

if __name__ == "__main__":
    with quick_imports("requests"):
        from worker.child import main
    main(sys.argv[1:])
