"""Evaluation of the zoo: images of every model, judged and checked, against denoising steps."""
