"""Start torchrun as its own command does: what lies in the project's folder is not in the way of its modules.

Stands on a node as the launch's ``tools/torchrun.py``, and is run by the environment's Python, whatever it is. With
``python -m torch.distributed.run`` the folder in which it is started comes first on the path, and a project's signal.py
or platform.py is what torch imports. A script's own folder comes first instead: that is ours, and goes as well.
"""

import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    from torch.distributed.run import main

    sys.exit(main())
