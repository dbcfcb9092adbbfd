"""Importing this ties a process's life to its parent's; the server that forks cells begins with it.

The server is started before anything is known to be right. When the engine then ends with a
message, it would go on importing for seconds and hold the terminal or pipe that it inherited.
"""

import ctypes
import os
import signal
import sys

from medmtl.experiment.engines.nursery import ENGINE_PID

PR_SET_PDEATHSIG = 1  # prctl(2); elsewhere the server ends a little later, by multiprocessing

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[ENGINE_PID]):  # it was gone before
        os._exit(0)
