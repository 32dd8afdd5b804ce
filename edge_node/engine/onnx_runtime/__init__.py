"""Denoisers compiled to graphs of ONNX Runtime: exported once, kept on disk, fed with one block."""
