"""Edge nodes: hold diffusion models under a byte budget and generate images step by step."""
