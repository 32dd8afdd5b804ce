"""A turn of the device: what is launched, when it is done, and who hears of it."""
