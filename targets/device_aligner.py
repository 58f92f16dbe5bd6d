"""A bundle that finds landmarks on a device, judged here."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Landmarks
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.session import Backend
from slimalign.targets.device_job import Device, Job, Subject, clear, device_results

Image = NDArray[np.uint8]


class DeviceAligner:
    """Finds the landmarks of crops with ``bundle`` on ``device``; ``threads`` None means all its cores.

    ``runtime`` is known once it has found some. What was found before the line drops is not looked for again, until
    ``clear``.
    """

    faces_at_once = 128
    """Crops are sent by so many, each a job of its own."""

    def __init__(
        self,
        device: Device,
        bundle: Bundle,
        threads: int | None,
        backend: Backend,
    ):
        self.manifest = bundle.manifest
        self.rule = bundle.manifest.crop_rule
        self.landmarks = bundle.manifest.landmark_scheme.count
        self.runtime = ""
        self._device, self._bundle = device, bundle
        self._jobs: list[Job] = []
        self._entries = {"threads": threads, "backend": backend._asdict(), "landmarks": self.landmarks}

    def align_crops(self, crops: Image) -> Landmarks:
        """Landmarks of ``crops`` (N, S, S, 3) uint8 RGB that were cut by ``rule``, in pixels of the crop."""
        points, scores = [np.zeros((0, self.landmarks, 2))], [np.zeros((0, self.landmarks))]
        job = Job("points", [Subject(self._bundle, crops)], self._entries)
        self._jobs.append(job)
        with closing(device_results(self._device, job)) as results:
            for entry in results:
                if entry["kind"] == "points":
                    points.append(np.array(entry["points"]))
                    scores.append(np.array(entry["scores"]))
                    self.runtime = entry["runtime"]
        return Landmarks(np.concatenate(points), np.concatenate(scores))

    def clear(self) -> None:
        """Take what was found off the device, once all of it is safe here."""
        for job in self._jobs:
            clear(self._device, job)
        self._jobs.clear()
