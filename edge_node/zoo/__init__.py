"""The built-in zoo: small real Stable Diffusion variants, trained on rendered scenes."""
