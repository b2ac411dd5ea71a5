"""Runs a network over a series: pictures one by one, or slices as one volume, whole or through windows."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError, UnsupportedSourceError
from worker.image_stack import Arrangement, ImageStack
from worker.postprocessing import clean
from worker.segmenters.interface import ProgressCallback, Segmentation, SegmenterInfo
from worker.segmenters.semantic.fitting import Fit, fit_of
from worker.segmenters.semantic.looking import Looker, Network
from worker.segmenters.semantic.normalisation import Normaliser
from worker.segmenters.semantic.outcome import refuse_foreign, segmentation_of
from worker.segmenters.semantic.settings import SemanticSettings
from worker.segmenters.semantic.windows import through_windows

_AXES = ("slices", "rows", "columns")
Probability = NDArray[np.float16]


class SemanticRunner:
    """A network with its settings, ready for series.

    Args:
        network: See :data:`worker.segmenters.semantic.looking.Network`.
        settings: From the manifest.
        info: Of the segmenter with this model.
        threshold: Instead of that of the settings; 0 takes theirs.
        batch: Instead of that of the settings; 0 takes theirs.
    """

    def __init__(
        self, network: Network, settings: SemanticSettings, info: SegmenterInfo, *, threshold: float, batch: int
    ) -> None:
        if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
            raise ConfigurationError("`threshold` must be a number from 0 up to 1; 0 takes that of the manifest")
        if not isinstance(batch, int) or batch < 0:
            raise ConfigurationError("`batch` must be a whole number; 0 takes that of the manifest")
        self._network, self._settings, self._info = network, settings, info
        self._threshold = float(threshold) or settings.mask.threshold
        self._batch = batch or settings.batch

    def segment(self, stack: ImageStack, progress: ProgressCallback) -> Segmentation:
        """Find the classes in one series.

        Raises:
            UnsupportedSourceError: The network does not take such a series.
            ConfigurationError: The network is not what its manifest says.
        """
        refuse_foreign(stack, self._info)
        looker = Looker(self._network, self._settings.output, len(self._info.classes), self._batch)
        started = time.perf_counter()
        volume = self._settings.layout == "NCDHW"
        fit, warnings = self._fit(stack)
        find = self._in_volume if volume else self._in_pictures
        probability = find(stack, looker, fit, progress)
        looked = time.perf_counter()
        seed = max(self._settings.mask.seed, self._threshold)
        least = self._settings.mask.least_size(stack.pixels.shape[1:3])
        mask = np.stack(
            [
                clean(one, arrangement=stack.arrangement, threshold=self._threshold, seed=seed, minimum_size=least)
                for one in probability
            ]
        )
        progress(1.0)
        parameters = {"threshold": f"{self._threshold:g}", "seed_threshold": f"{seed:g}", "minimum_size": str(least)}
        return segmentation_of(
            mask,
            probability,
            self._info,
            parameters={**parameters, **self._parameters(fit)},
            seconds={"network": looked - started, "clean": time.perf_counter() - looked},
            warnings=(*warnings, *looker.portions.warnings()),
        )

    def _fit(self, stack: ImageStack) -> tuple[Fit, tuple[str, ...]]:
        """How frames, or the volume in the network's axes, are fitted."""
        shape, spacing, target = stack.pixels.shape[:3], stack.spacing_mm, self._settings.spacing_mm
        if self._settings.layout == "NCDHW":
            if stack.arrangement is not Arrangement.VOLUME or stack.is_colour:
                raise UnsupportedSourceError(
                    f"{self._info.name} looks at volumes of grey slices; choose another segmenter for these pictures"
                )
            order = self._order
            shape = tuple(shape[axis] for axis in order)
            spacing = None if spacing is None else (spacing[order[0]], spacing[order[1]], spacing[order[2]])
            fit = fit_of(shape, spacing, target, self._settings.size)
        else:
            fit = fit_of(shape[1:], None if spacing is None else spacing[1:], target, self._settings.size)
        if target and spacing is None:
            return fit, ("The spacing of the pixels is unknown; they were shown to the network as they are",)
        return fit, ()

    @property
    def _order(self) -> tuple[int, int, int]:
        first, second, third = (_AXES.index(axis.lstrip("-")) for axis in self._settings.axes)
        return first, second, third

    def _in_pictures(self, stack: ImageStack, looker: Looker, fit: Fit, progress: ProgressCallback) -> Probability:
        normaliser = Normaliser(stack, self._settings)
        count = len(stack.pixels)
        probability = np.zeros((looker.classes, *stack.pixels.shape[:3]), np.float16)

        def pictures(which: slice) -> NDArray[np.float32]:
            return np.stack([fit.forth(normaliser.frame(index)) for index in range(which.start, which.stop)])

        def keep(which: slice, found: NDArray[np.float32]) -> None:
            for index, one in zip(range(which.start, which.stop), found, strict=True):
                probability[:, index] = np.clip(fit.back(one), 0, 1)

        if fit.is_whole:
            looker.look(count, pictures, keep, progress)
            return probability
        for index in range(count):
            found = np.concatenate(
                [
                    part
                    for _, part in through_windows(
                        looker,
                        pictures(slice(index, index + 1))[0],
                        fit.window,
                        self._settings.size.overlap,
                        lambda share, index=index: progress((index + share) / count),  # type: ignore[misc]  # bound
                    )
                ],
                axis=1,
            )
            keep(slice(index, index + 1), found[None])
        return probability

    def _in_volume(self, stack: ImageStack, looker: Looker, fit: Fit, progress: ProgressCallback) -> Probability:
        backwards = tuple(axis for axis, name in enumerate(self._settings.axes) if name.startswith("-"))
        image = Normaliser(stack, self._settings).volume().transpose(0, *(1 + axis for axis in self._order))
        image = fit.forth(np.flip(image, tuple(1 + axis for axis in backwards)))
        found = np.empty((looker.classes, *fit.padded), np.float16)
        for first, part in through_windows(looker, image, fit.window, self._settings.size.overlap, progress):
            found[:, first : first + part.shape[1]] = part
        probability = np.empty((looker.classes, *stack.pixels.shape[:3]), np.float16)
        for index in range(looker.classes):  # one at a time: in float32 each is as large as the series
            one = np.flip(np.clip(fit.back(found[index : index + 1])[0], 0, 1), backwards)
            probability[index] = one.transpose(np.argsort(self._order))
        return probability

    def _parameters(self, fit: Fit) -> Mapping[str, str]:
        size = self._settings.size
        parameters = {
            "size": "x".join(str(length) for length in fit.window),
            "fit": size.fit,
            "scale": self._settings.normalisation.scale,
            "activation": self._settings.output.activation,
        }
        if size.fit == "windows":
            parameters["overlap"] = f"{size.overlap:g}"
        if self._settings.spacing_mm:
            parameters["spacing_mm"] = " ".join(f"{length:g}" for length in self._settings.spacing_mm)
        return parameters
