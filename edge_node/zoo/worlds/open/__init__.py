"""The open world: captions that name things and counts, and leave everything else open."""
