"""The texts that were encoded last: an empty negative prompt is encoded once for all requests."""

from collections.abc import Iterator

from edge_node.engine.families import Condition

MOST_BYTES = 2**25
"""On the device, for each resident model: some 100 prompts of Stable Diffusion 1.5 in float32."""


class EncodedTexts:
    """What the denoiser reads of recent texts; who was not asked for longest is forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._num_bytes = 0
        self._found: dict[str, Condition] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def get(self, text: str) -> Condition | None:
        """Return what is known of a text."""
        found = self._found.pop(text, None)
        if found is not None:
            self._found[text] = found  # the latest
        return found

    def add(self, text: str, encoded: Condition) -> None:
        """Remember a text, and forget others where they take too much."""
        self._drop(text)
        self._found[text] = encoded
        self._num_bytes += _bytes(encoded)
        while self._num_bytes > self._most_bytes:
            self._drop(next(iter(self._found)))

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
        self._num_bytes = 0

    def _drop(self, text: str) -> None:
        self._num_bytes -= _bytes(self._found.pop(text, {}))


def _bytes(encoded: Condition) -> int:
    return sum(tensor.nbytes for tensor in encoded.values())
