"""What must be settled before any test module is imported."""

import os
import shutil

# Triton decides at import whether it compiles or interprets, and transformers imports it. Without
# a GPU the kernels are interpreted; with one, and TRITON_INTERPRET unset, they run natively.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
