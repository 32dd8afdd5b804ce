"""How images are made: one device thread, shared denoising steps, loading; the only torch here."""
