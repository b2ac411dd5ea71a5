"""A loaded Sa2VA: pictures and questions go in, answers and masks come out."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder
from worker.segmenters.sa2va.configuration import NetworkConfig, Sa2vaSizes, network_config, read_sizes
from worker.segmenters.sa2va.drawing import Drawer, Drawn, probability
from worker.segmenters.sa2va.found import DrawnMask, SpokenAnswer
from worker.segmenters.sa2va.loading import Checkpoint, load_network, open_checkpoint
from worker.segmenters.sa2va.network import Sa2vaNetwork
from worker.segmenters.sa2va.picture_tensors import Picture, cut_tiles, for_language_model, for_sam2
from worker.segmenters.sa2va.reading import Answer, AnswerMode, PictureReader
from worker.segmenters.sa2va.tracking import Tracker
from worker.segmenters.sa2va.words import Words

CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"


class Sa2vaModel:
    """The network with its vocabulary.

    Args:
        network: With weights.
        words: Its vocabulary.

    Attributes:
        sizes: Of config.json.
    """

    def __init__(self, network: Sa2vaNetwork, words: Words) -> None:
        self.network, self.words = network, words
        self.sizes: Sa2vaSizes = network.config.sizes
        self.device, self.dtype = network.sam2.device, network.sam2.dtype
        with torch.inference_mode():
            self._reader, self._drawer = PictureReader(network, words), Drawer(network.sam2)

    @classmethod
    def open(
        cls,
        folder: ModelFolder,
        device: str,
        dtype: torch.dtype,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> "Sa2vaModel":
        """Load a folder of weights in the published layout.

        Args:
            folder: With config.json, tokenizer.json and safetensors files.
            device: Where to.
            dtype: What the weights become.
            progress: Called with the share that is loaded.

        Raises:
            ConfigurationError: A file is missing, or not what it should be.
        """
        words = _words(folder)
        with open_checkpoint([folder.path(name) for name in folder.names(".safetensors")]) as checkpoint:
            config = _config(folder, words, checkpoint)
            network = load_network(config, checkpoint, device=torch.device(device), dtype=dtype, progress=progress)
        return cls(network, words)

    @staticmethod
    def parameters_in(folder: ModelFolder) -> int:
        """Load a folder strictly without its numbers, and count what would be learned.

        Raises:
            ConfigurationError: A file is missing, or not what it should be.
        """
        words = _words(folder)
        with open_checkpoint([folder.path(name) for name in folder.names(".safetensors")]) as checkpoint:
            network = load_network(
                _config(folder, words, checkpoint),
                checkpoint.without_numbers(),
                device=torch.device("meta"),
                dtype=torch.float32,
            )
        return sum(parameter.numel() for parameter in network.parameters())

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def wait(self) -> None:
        """Wait until the device has done what it was given, so that stages can be timed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def tiles(self, picture: Picture, most: int) -> NDArray[np.uint8]:
        """Cut a picture for the language model; ``most`` 0 is what the checkpoint says."""
        limit = min(most or self.sizes.max_tiles, self.sizes.max_tiles)
        return cut_tiles(picture, tile=self.sizes.tile, most=limit, thumbnail=self.sizes.use_thumbnail)

    def ask_about_pictures(
        self, pictures: Sequence[Picture], questions: Sequence[str], most_tiles: int, mode: AnswerMode
    ) -> list[list[Answer]]:
        """Ask the same questions about pictures of one size, each by itself; an answer by question and picture."""
        tiles = np.stack([self.tiles(picture, most_tiles) for picture in pictures])
        return self._ask(tiles, questions, 1, tiles.shape[1], mode)

    def ask_about_run(self, frames: Sequence[Picture], questions: Sequence[str], mode: AnswerMode) -> list[Answer]:
        """Ask about a run of which the language model sees some frames, in one tile each; an answer by question."""
        tiles = np.concatenate([self.tiles(frame, 1) for frame in frames])[None]
        return [answers[0] for answers in self._ask(tiles, questions, len(frames), 1, mode)]

    def _ask(
        self, tiles: NDArray[np.uint8], questions: Sequence[str], pictures: int, tiles_of_each: int, mode: AnswerMode
    ) -> list[list[Answer]]:
        pieces = self.sizes.tokens_per_tile * tiles_of_each
        asked = [self.words.question(text, pictures=pictures, pieces=pieces) for text in questions]
        flat = for_language_model(tiles.reshape(-1, *tiles.shape[2:]), self.device, self.dtype)
        return self._reader.ask(flat.reshape(*tiles.shape[:2], *flat.shape[1:]), asked, mode)

    def draw_on_pictures(
        self, pictures: Sequence[Picture], answers: Sequence[Sequence[Answer]], first: int
    ) -> list[DrawnMask]:
        """Draw what was answered about each picture; the pictures are numbered from ``first``."""
        wanted = [
            (question, number, vector)
            for question, of_pictures in enumerate(answers)
            for number, answer in enumerate(of_pictures)
            for vector in answer.vectors
        ]
        if not wanted:
            return []
        numbers = torch.tensor([number for _, number, _ in wanted], device=self.device)
        features = self._drawer.look(for_sam2(list(pictures), self.device, self.dtype)).of(numbers)
        drawn = self._drawer.draw(features, torch.stack([vector for *_, vector in wanted]))
        places = [(question, first + number) for question, number, _ in wanted]
        return _masks(drawn, places, pictures[0].shape[:2])

    def tracker(self, answers: Sequence[Answer], conditioning: Sequence[int], frames: int) -> "RunTracker | None":
        """Follow through a run what was answered about some of its frames; None where nothing was to be drawn."""
        owners = [question for question, answer in enumerate(answers) for _ in answer.vectors]
        if not owners:
            return None
        vectors = torch.cat([answer.vectors for answer in answers])
        return RunTracker(self, self._drawer, owners, Tracker(self._drawer, vectors, conditioning, frames))


class RunTracker:
    """Draws on the frames of one run.

    Attributes:
        order: In which the frames must come.
    """

    def __init__(self, model: Sa2vaModel, drawer: Drawer, owners: Sequence[int], tracker: Tracker) -> None:
        self._model, self._drawer, self._owners, self._tracker = model, drawer, owners, tracker
        self.order = tracker.order

    def draw(self, frames: Sequence[int], pictures: Sequence[Picture]) -> list[DrawnMask]:
        """Draw on frames that follow each other in ``order``; SAM 2 looks at all of them in one go."""
        seen = self._drawer.look(for_sam2(list(pictures), self._model.device, self._model.dtype))
        masks: list[DrawnMask] = []
        for place, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
            one = torch.tensor([place], device=self._model.device)
            drawn = self._tracker.draw(frame, seen.of(one))
            masks += _masks(drawn, [(owner, frame) for owner in self._owners], picture.shape[:2])
        return masks


def _words(folder: ModelFolder) -> Words:
    for name in (CONFIG_FILE, TOKENIZER_FILE):
        if not folder.has(name):
            raise ConfigurationError(f"{folder.folder} lists no {name}, which a Sa2VA needs")
    return Words.read(folder.path(TOKENIZER_FILE))


def _config(folder: ModelFolder, words: Words, checkpoint: Checkpoint) -> NetworkConfig:
    sizes = read_sizes(folder.path(CONFIG_FILE).read_bytes(), str(folder.folder / CONFIG_FILE))
    return network_config(sizes, checkpoint.shapes, words.piece, folder.manifest.settings.get("sam2"))


def spoken(answers: Sequence[Sequence[Answer]], first: int) -> list[SpokenAnswer]:
    """Answers by question and picture, the pictures numbered from ``first``, off the device."""
    return [
        SpokenAnswer(question, first + number, answer.text, _array(answer.hidden), _array(answer.vectors))
        for question, of_pictures in enumerate(answers)
        for number, answer in enumerate(of_pictures)
    ]


def _masks(drawn: Drawn, places: Sequence[tuple[int, int]], size: Sequence[int]) -> list[DrawnMask]:
    probabilities = _array(probability(drawn.logits, *size))
    ious, scores = _array(drawn.predicted_iou), _array(drawn.object_score.float().sigmoid())
    return [
        DrawnMask(question, frame, probabilities[row], float(ious[row]), float(scores[row]))
        for row, (question, frame) in enumerate(places)
    ]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
