"""The plain world: captions that say everything about one or two flat shapes."""
