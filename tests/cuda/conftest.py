"""Tests that judge the emulated CUDA kernels, in the process that tests/csrc/test_emulated.py starts for them."""

import os

collect_ignore_glob = [] if os.environ.get("ZOOMKERN_EMULATED") else ["test_emulated_*.py"]
