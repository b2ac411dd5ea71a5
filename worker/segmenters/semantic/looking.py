"""Shows a network pictures or windows, some at a time, and makes probabilities of classes of its answer."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from dicom_core.errors import ConfigurationError, SegmentationError
from worker.segmenters.device_memory import Portions, in_batches
from worker.segmenters.semantic.fitting import resampled
from worker.segmenters.semantic.settings import Output

Numbers = NDArray[np.float32]
Network = Callable[[Numbers], Numbers]
"""Takes ``(pictures, channels, *spatial)`` float32 and gives ``(pictures, channels, *spatial)`` float32; an answer of
another spatial size is brought to that of the pictures."""


class Looker:
    """A network and what its answer means. It remembers how much fits into the memory of the device.

    Args:
        network: Called with as many pictures as fit.
        output: What the numbers mean.
        classes: How many are wanted.
        batch: Pictures at a time, as long as there is memory.
    """

    def __init__(self, network: Network, output: Output, classes: int, batch: int) -> None:
        self.classes = classes
        self._network, self._output = network, output
        self._asked = self._batch = batch

    @property
    def portions(self) -> Portions:
        """What was asked for and what fitted so far."""
        return Portions(self._asked, self._batch)

    def look(
        self,
        count: int,
        pictures: Callable[[slice], Numbers],
        keep: Callable[[slice, Numbers], None],
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Look at pictures.

        Args:
            count: How many there are.
            pictures: Makes some of them, ``(pictures, channels, *spatial)``.
            keep: Takes the probabilities of those, ``(pictures, classes, *spatial)``.
            progress: Called with the finished share.

        Raises:
            RunnerBusyError: Not even one fits into memory.
            ConfigurationError: The answer does not have the channels that the manifest speaks of.
            SegmentationError: The answer holds something that is no number.
        """

        def work(which: slice) -> None:
            shown = pictures(which)
            found = self._probabilities(self._network(shown))
            keep(which, np.stack([resampled(one, shown.shape[2:]) for one in found]))

        portions = in_batches(count, self._batch, work, progress)
        if portions.used < portions.asked:
            self._batch = portions.used

    def _probabilities(self, values: Numbers) -> Numbers:
        groups = self._output.channels_of(self.classes, values.shape[1])
        if not np.isfinite(values).all():
            raise SegmentationError("The network's answer holds what is no number; check its normalisation and type")
        if self._output.activation == "softmax":
            shares = softmax(values, axis=1)
            made = [shares[:, list(group)].sum(axis=1) for group in groups]
        else:
            if self._output.activation == "none" and (values.min() < -0.01 or values.max() > 1.01):
                raise ConfigurationError(
                    "The network's answer is no probability (below 0 or above 1); write sigmoid or softmax as "
                    "output.activation in its manifest"
                )
            shares = expit(values) if self._output.activation == "sigmoid" else values
            made = [shares[:, list(group)].max(axis=1) for group in groups]
        return np.asarray(np.clip(np.stack(made, axis=1), 0, 1), np.float32)
