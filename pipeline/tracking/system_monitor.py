"""The use of processors, memory, disk, network and GPUs during a run."""

from typing import Any

SAMPLING = 5.0  # seconds between two samples


class SystemMonitor:
    """Logs samples to a run until it is stopped."""

    def __init__(self, run_id: str) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        create: Any = SystemMetricsMonitor  # without types
        self._monitor = create(run_id, SAMPLING, resume_logging=True)
        self._monitor.start()

    def stop(self) -> None:
        """Send the last sample, too: a training of seconds has only that one."""
        self._monitor.finish()
        self._monitor.publish_metrics(self._monitor.aggregate_metrics())
        self._monitor.mlflow_logger.flush()
