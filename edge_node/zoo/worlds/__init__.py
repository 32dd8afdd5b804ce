"""What the zoo's models draw: worlds of captioned scenes that are rendered, never downloaded."""
