"""One thread a process: tiny models lose more by waiting for each other's threads than they gain by them."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
