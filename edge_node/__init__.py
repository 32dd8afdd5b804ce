"""Edge nodes: hold diffusion models under a byte budget and generate images step by step."""

import os

# transformers says at import, each time, that torchvision is missing; nothing here needs it.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# diffusers warns at each load about AutoencoderTiny, in its own classes' names.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
# Idle OpenMP threads sleep: spinning ones starve every other process of a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
