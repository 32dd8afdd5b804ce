"""Edge nodes: hold diffusion models under a byte budget and generate images step by step."""

import os

# transformers says at import, each time, that torchvision is missing; nothing here needs it.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# diffusers warns at each load about AutoencoderTiny, in its own classes' names.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
# OpenMP's threads spin about a millisecond for their next work, then sleep: a denoiser's many small
# layers run three times slower where they sleep at once (docs/engine.md).
os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
