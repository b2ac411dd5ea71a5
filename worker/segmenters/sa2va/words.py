"""What the language model is told, and what it answers, as numbers of its vocabulary."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from dicom_core.errors import ConfigurationError, InvalidPromptError

USUAL_ANSWER = "Sure, [SEG]."
_PICTURE = "<image>"
_USER, _ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
_START, _END, _PIECE, _SEGMENT, _STOP = "<img>", "</img>", "<IMG_CONTEXT>", "[SEG]", "<|im_end|>"
_SPECIAL = ("<|im_start|>", _STOP, _START, _END, _PIECE, _PICTURE)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt in two halves, so that several questions about one picture can share the first.

    Attributes:
        before: Numbers of the words up to the end of the picture.
        after: Those of what is asked.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


class Words:
    """The vocabulary of one checkpoint; its numbers differ between sizes and are never assumed.

    Args:
        tokenizer: Of the checkpoint.
        where: What it is called in errors.

    Attributes:
        piece: Number of the word that stands for a piece of a picture.
        segment: Number of ``[SEG]``.
        stop: Number of the word that ends an answer.
        usual_answer: Numbers of the answer that is put into the model's mouth, up to ``[SEG]``.

    Raises:
        ConfigurationError: It is not the tokenizer of a Sa2VA.
    """

    def __init__(self, tokenizer: Tokenizer, where: str = "The tokenizer") -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        found = {word: self._tokenizer.token_to_id(word) for word in (*_SPECIAL[:-1], _SEGMENT)}
        missing = [word for word, number in found.items() if number is None]
        if missing:
            raise ConfigurationError(f"{where} is not that of a Sa2VA: it lacks {', '.join(missing)}")
        numbers = {word: number for word, number in found.items() if number is not None}
        self.piece, self.segment, self.stop = numbers[_PIECE], numbers[_SEGMENT], numbers[_STOP]
        answer = self._numbers(USUAL_ANSWER)
        self.usual_answer = answer[: answer.index(self.segment) + 1]

    @classmethod
    def read(cls, file: Path) -> "Words":
        """Read ``tokenizer.json``.

        Raises:
            ConfigurationError: The file is no tokenizer, or not that of a Sa2VA.
        """
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001  # the library raises nothing narrower
            raise ConfigurationError(f"{file} is no tokenizer: {error}") from None
        return cls(tokenizer, str(file))

    def question(self, text: str, *, pictures: int, pieces: int) -> Question:
        """Say what is shown and what is asked.

        Args:
            text: In the words of the user; a leading ``<image>``, as the published examples have it, is allowed.
            pictures: How many stand before the text.
            pieces: Words that stand for each.

        Raises:
            InvalidPromptError: The text holds a word that only the program may use.
        """
        asked = text.strip().removeprefix(_PICTURE).lstrip()
        if used := [word for word in _SPECIAL if word in asked]:
            raise InvalidPromptError(f"A question cannot hold {used[0]}, which means something else to the model")
        shown = "\n".join([_START + _PIECE * pieces + _END] * pictures)
        # Cut at a special word, where no tokenizer joins what stands before and after. Only the beginning gets what
        # the tokenizer puts there by itself, if anything.
        before = tuple(self._tokenizer.encode(_USER + shown).ids)
        return Question(before, self._numbers(asked + _ASSISTANT))

    def text(self, numbers: list[int]) -> str:
        """An answer in words, special ones included."""
        return str(self._tokenizer.decode(numbers, skip_special_tokens=False)).strip()

    @property
    def usual_text(self) -> str:
        """What an answer that is put into the model's mouth reads like in full."""
        return USUAL_ANSWER + _STOP

    def _numbers(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
