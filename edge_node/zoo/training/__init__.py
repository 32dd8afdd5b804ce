"""Training of the zoo's nets: from rendered scenes to diffusers folders."""
