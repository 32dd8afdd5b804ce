"""What a program sets in its environment before it imports torch, for itself and its children.

Responsible for OpenMP's waiting and for libraries that warn about what is meant so. Not: anything
at import; the programs that start call ``prepare``. What the environment says already stays.
"""

import os

_SETTINGS = {
    # transformers says at import, each time, that torchvision is missing; nothing here needs it.
    "TRANSFORMERS_VERBOSITY": "error",
    # diffusers warns at each load about AutoencoderTiny, in its own classes' names.
    "DIFFUSERS_VERBOSITY": "error",
    # OpenMP's threads spin about a millisecond for their next work, then sleep: a denoiser's many
    # small layers run three times slower where they sleep at once (docs/explanation/engine.md).
    "OMP_WAIT_POLICY": "ACTIVE",
    "GOMP_SPINCOUNT": "30000",
}


def prepare() -> None:
    """Complete this process's environment; too late for OpenMP once torch is imported."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
