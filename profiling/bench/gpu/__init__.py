"""What a device does with full-size models, in stages that can be resumed: ``make gpu``."""
