"""The radio cell: random waypoint walks, path loss, shadowing, fading, and Shannon's rate.

Responsible for the channels of all users (and, in a simulator, all environments) at once. Not:
requests, decisions.

    g   channel power gain, unitless          P   transmit power, W
    b   share of the bandwidth, 0..1          W   bandwidth, Hz
    N0  noise density, W/Hz

Source: path loss 128.1 + 37.6 log10(d_km) dB: 3GPP TR 36.814 (macro cell, 2 GHz). Shadowing that
forgets itself over a distance: Gudmundson 1991.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controller.cell.config import RadioConfig

Array = NDArray[np.float64]

MIN_RATE_BPS = 1.0
"""Of whoever is granted a share: one of 0 is slow beyond use, but no division by 0."""


def path_loss_db(distance_m: ArrayLike) -> Array:
    """Return the path loss at ``distance_m``.

    >>> float(path_loss_db(1000.0))
    128.1
    """
    return np.asarray(128.1 + 37.6 * np.log10(np.asarray(distance_m, float) / 1000.0))


def noise_w_per_hz(noise_dbm_per_hz: float) -> float:
    """Return a noise density in W/Hz.

    >>> round(noise_w_per_hz(-174.0) * 1e21, 3)
    3.981
    """
    return float(10 ** ((noise_dbm_per_hz - 30) / 10))


def rate_bps(
    share: ArrayLike, gain: ArrayLike, bandwidth_hz: float, power_w: float, noise: float
) -> Array:
    """Return ``R = b W log2(1 + P g / (N0 b W))``; 0 where the share is 0."""
    width = np.asarray(share, float) * bandwidth_hz
    safe = np.where(width > 0, width, 1.0)
    rate = width * np.log2(1 + power_w * np.asarray(gain, float) / (noise * safe))
    return np.asarray(np.where(width > 0, rate, 0.0))


def downlink_bps(radio: RadioConfig, share: ArrayLike, gain: ArrayLike) -> Array:
    """Return the downlink rates of shares of the bandwidth."""
    noise = noise_w_per_hz(radio.noise_dbm_per_hz)
    return rate_bps(share, gain, radio.bandwidth_hz, radio.transmit_power_w, noise)


def uplink_bps(radio: RadioConfig, share: ArrayLike, gain: ArrayLike) -> Array:
    """Return the uplink rates of shares of the bandwidth."""
    noise = noise_w_per_hz(radio.noise_dbm_per_hz)
    return rate_bps(share, gain, radio.uplink_bandwidth_hz, radio.user_power_w, noise)


class RadioCell:
    """The users' channels over time; ``step`` moves them on by one slot.

    ``shape`` is (user,), or (env, user) for as many cells side by side; every array has it.
    """

    def __init__(
        self, config: RadioConfig, shape: int | tuple[int, ...], rng: np.random.Generator
    ) -> None:
        self._config = config
        self._rng = rng
        self._shape = (shape,) if isinstance(shape, int) else shape
        self._positions = self._points()  # [..., user, 2], metres from the base station
        self._targets = self._points()
        self._speeds = self._draw_speeds()
        self._shadowing_db = rng.normal(0.0, config.shadowing_db, self._shape)
        self._fading = rng.exponential(1.0, self._shape)

    @property
    def gains(self) -> Array:
        """Channel power gains [..., user] of this slot."""
        distance_m = np.maximum(_length(self._positions), self._config.min_distance_m)
        large_db = -path_loss_db(distance_m) + self._shadowing_db
        return np.asarray(10 ** (large_db / 10) * self._fading)

    @property
    def typical_gain(self) -> float:
        """The gain half a radius away, without shadowing or fading."""
        return float(10 ** (-path_loss_db(self._config.cell_radius_m / 2) / 10))

    def step(self, duration_s: float) -> None:
        """Move every user on by ``duration_s`` and draw new fading."""
        moved_m = self._walk(duration_s)
        kept = np.exp(-moved_m / self._config.shadowing_distance_m)
        fresh = self._rng.normal(0.0, self._config.shadowing_db, self._shape)
        self._shadowing_db = kept * self._shadowing_db + np.sqrt(1 - kept**2) * fresh
        self._fading = self._rng.exponential(1.0, self._shape)  # Rayleigh: the power is exponential

    def _walk(self, duration_s: float) -> Array:
        """Walk towards the targets; who arrives picks a new one. Return the metres moved."""
        way = self._targets - self._positions
        left_m = _length(way)
        reach_m = self._speeds * duration_s
        arrives = reach_m >= left_m
        part = np.where(arrives, 1.0, reach_m / np.maximum(left_m, 1e-9))
        self._positions = self._positions + way * part[..., None]
        # Drawn for all, so that the stream does not depend on who arrives.
        targets, speeds = self._points(), self._draw_speeds()
        self._targets = np.where(arrives[..., None], targets, self._targets)
        self._speeds = np.where(arrives, speeds, self._speeds)
        return np.asarray(np.minimum(reach_m, left_m))

    def _points(self) -> Array:
        radius = self._config.cell_radius_m * np.sqrt(self._rng.random(self._shape))
        angle = 2 * np.pi * self._rng.random(self._shape)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)

    def _draw_speeds(self) -> Array:
        return self._rng.uniform(
            self._config.min_speed_mps, self._config.max_speed_mps, self._shape
        )


def _length(vectors: Array) -> Array:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]))
