"""Edge nodes: hold diffusion models under a byte budget and generate images step by step."""

import os

# transformers says at import, each time, that torchvision is missing; nothing here needs it.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
