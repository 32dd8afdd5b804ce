"""Telemetry: what the device reports, by NVML on a GPU and by psutil elsewhere."""

import logging

import psutil
import pynvml

from protos.messages import Telemetry

logger = logging.getLogger(__name__)


class TelemetryReader:
    """Reads one device, or the host where the engine runs on its CPU."""

    def __init__(self, device_name: str, device_uuid: str) -> None:
        """Prepare for the device that the engine calls so; an empty uuid means the host."""
        self._device_name = device_name
        self._process = psutil.Process()
        self._handle = None
        if device_uuid:
            try:
                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(device_uuid)
            except pynvml.NVMLError as error:
                logger.warning("no NVML telemetry: %s", error)
        psutil.cpu_percent()  # the first reading is the start of the interval

    def read(self) -> Telemetry:
        """Return the device's state now."""
        process_bytes = self._process.memory_info().rss
        if self._handle is None:
            memory = psutil.virtual_memory()
            return Telemetry(
                device_name=self._device_name,
                memory_used_bytes=memory.total - memory.available,
                memory_total_bytes=memory.total,
                process_memory_bytes=process_bytes,
                utilisation_frac=psutil.cpu_percent() / 100,
            )
        memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        return Telemetry(
            device_name=self._device_name,
            memory_used_bytes=int(memory.used),
            memory_total_bytes=int(memory.total),
            process_memory_bytes=process_bytes,
            utilisation_frac=pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100,
            power_w=pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3,
            energy_j=self.energy_j(),
        )

    def energy_j(self) -> float | None:
        """Return the device's energy counter; None where it has none."""
        if self._handle is None:
            return None
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except pynvml.NVMLError:
            return None
