"""The language model looks at pictures, is asked, and answers; at the word [SEG] it knows what is to be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from transformers import DynamicCache

from worker.segmenters.sa2va.network import Sa2vaNetwork
from worker.segmenters.sa2va.words import Question, Words

MOST_WORDS = 64
"""Words after which an answer is cut off; the usual one has six."""


class AnswerMode(StrEnum):
    """Who speaks the answer."""

    GENERATE = "generate"
    """The model, word by word, as published. It may answer without [SEG]: then there is nothing to draw."""
    FORCED = "forced"
    """The usual answer is put into its mouth in the same pass: one pass instead of six, and always a mask."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered about one picture, or one run.

    Attributes:
        text: In words.
        hidden: ``([SEG]s in the answer, width)``: the last hidden states, after the final norm, at each [SEG].
        vectors: ``([SEG]s in the answer, prompt width)``: what SAM 2 gets for each.
    """

    text: str
    hidden: Tensor
    vectors: Tensor


class PictureReader:
    """Asks the language model of a network.

    Args:
        network: With weights.
        words: Its vocabulary.
    """

    def __init__(self, network: Sa2vaNetwork, words: Words) -> None:
        self._network, self._words = network, words
        self._language = network.internvl.model.language_model
        self._head = network.internvl.lm_head

    def ask(self, tiles: Tensor, questions: Sequence[Question], mode: AnswerMode) -> list[list[Answer]]:
        """Ask the same questions about several pictures, or runs, at a time.

        Args:
            tiles: ``(pictures, tiles, 3, rows, columns)`` of each; of a run the tiles are its frames.
            questions: Whose first halves are equal and speak of that many tiles.
            mode: Who speaks the answer.

        Returns:
            For each question an answer for each picture.
        """
        before = self._shown(tiles, questions[0].before)
        if len(questions) == 1:
            return [self._answers(before, None, questions[0], mode)]
        # What all questions share is read once; after each question its words are forgotten again.
        cache = DynamicCache(config=self._language.config)
        self._language(inputs_embeds=before, past_key_values=cache, use_cache=True)
        answers = []
        for question in questions:
            answers.append(self._answers(before[:, :0], cache, question, mode))
            cache.crop(before.shape[1] - cache.get_seq_length())
        return answers

    def _shown(self, tiles: Tensor, numbers: tuple[int, ...]) -> Tensor:
        """The first half of the prompt, ``(pictures, words, width)``, with the pictures in their places."""
        pictures = len(tiles)
        seen = self._network.internvl.get_image_features(pixel_values=tiles.flatten(0, 1)).pooler_output
        ids = torch.tensor(numbers, device=tiles.device)
        embedded: Tensor = self._language.embed_tokens(ids).repeat(pictures, 1, 1)
        embedded[:, ids == self._words.piece] = seen.reshape(pictures, -1, seen.shape[-1]).to(embedded.dtype)
        return embedded

    def _answers(
        self, before: Tensor, cache: DynamicCache | None, question: Question, mode: AnswerMode
    ) -> list[Answer]:
        if mode is AnswerMode.FORCED:
            return self._forced(before, cache, question)
        return self._generated(before, cache, question)

    def _forced(self, before: Tensor, cache: DynamicCache | None, question: Question) -> list[Answer]:
        spoken = self._followed_by(before, question.after + self._words.usual_answer)
        output = self._language(inputs_embeds=spoken, past_key_values=cache, use_cache=cache is not None)
        hidden = output.last_hidden_state[:, -1:]
        vectors = self._network.projection(hidden)
        return [Answer(self._words.usual_text, *pair) for pair in zip(hidden, vectors, strict=True)]

    def _generated(self, before: Tensor, cache: DynamicCache | None, question: Question) -> list[Answer]:
        """Always the likeliest word. All prompts are equally long, so nothing is padded."""
        cache = cache or DynamicCache(config=self._language.config)
        said: list[Tensor] = []
        hidden: list[Tensor] = []
        ended = torch.zeros(len(before), dtype=torch.bool, device=before.device)
        spoken = self._followed_by(before, question.after)
        while len(said) < MOST_WORDS and not bool(ended.all()):
            output = self._language(inputs_embeds=spoken, past_key_values=cache, use_cache=True)
            last = output.last_hidden_state[:, -1]
            word = self._head(last).argmax(-1)
            said.append(word)
            hidden.append(last)
            ended |= word == self._words.stop
            spoken = self._language.embed_tokens(word)[:, None]
        # The state at a word is the one that its successor was chosen from; the last word has none.
        states = torch.stack([*hidden[1:], hidden[-1]], dim=1)
        words = torch.stack(said, dim=1).tolist()
        return [self._answer(row, state) for row, state in zip(words, states, strict=True)]

    def _answer(self, numbers: list[int], states: Tensor) -> Answer:
        if self._words.stop in numbers:
            numbers = numbers[: numbers.index(self._words.stop) + 1]
        places = [place for place, number in enumerate(numbers[:-1]) if number == self._words.segment]
        hidden = states[places]
        return Answer(self._words.text(numbers), hidden, self._network.projection(hidden))

    def _followed_by(self, before: Tensor, numbers: tuple[int, ...]) -> Tensor:
        ids = torch.tensor(numbers, device=before.device)
        return torch.cat([before, self._language.embed_tokens(ids).expand(len(before), -1, -1)], dim=1)
