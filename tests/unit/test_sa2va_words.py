"""The prompt, word for word, in the numbers of a vocabulary that the test makes."""

from pathlib import Path

import pytest
from sa2va_checkpoints import tokenizer
from tokenizers import Tokenizer, models

from dicom_core.errors import ConfigurationError, InvalidPromptError
from worker.segmenters.sa2va.words import Words


@pytest.fixture
def words() -> Words:
    return Words(tokenizer())


def said(numbers: tuple[int, ...]) -> str:
    return str(tokenizer().decode(list(numbers), skip_special_tokens=False))


def test_prompt_of_a_picture(words: Words) -> None:
    """User, picture, question, assistant; no system message; the picture comes once and first."""
    question = words.question("Where is it?", pictures=1, pieces=3)
    assert said(question.before) == "<|im_start|>user\n<img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>"
    assert said(question.after) == "Where is it?<|im_end|>\n<|im_start|>assistant\n"
    assert question.before.count(words.piece) == 3


def test_prompt_of_a_run(words: Words) -> None:
    """Several pictures, each in its own brackets, a line end between them."""
    question = words.question("?", pictures=2, pieces=1)
    assert said(question.before) == "<|im_start|>user\n<img><IMG_CONTEXT></img>\n<img><IMG_CONTEXT></img>"


def test_halves_are_the_whole(words: Words) -> None:
    """Cut at a special word, the two halves have the numbers that the whole prompt has."""
    question = words.question("Gefäße, bitte.", pictures=1, pieces=2)
    whole = "<|im_start|>user\n<img><IMG_CONTEXT><IMG_CONTEXT></img>Gefäße, bitte.<|im_end|>\n<|im_start|>assistant\n"
    assert [*question.before, *question.after] == tokenizer().encode(whole).ids


def test_picture_word_of_published_examples_is_taken_once(words: Words) -> None:
    """A question may begin with <image>, as in the published examples: it means the same."""
    assert words.question("<image>Find it.", pictures=1, pieces=1) == words.question("Find it.", pictures=1, pieces=1)


@pytest.mark.parametrize("word", ["<image>", "<img>", "</img>", "<IMG_CONTEXT>", "<|im_end|>", "<|im_start|>"])
def test_questions_cannot_hold_words_of_the_program(words: Words, word: str) -> None:
    """They would move or add pictures, or speak for the model."""
    with pytest.raises(InvalidPromptError, match="means something else"):
        words.question(f"Find {word} there", pictures=1, pieces=1)


def test_question_may_speak_of_seg(words: Words) -> None:
    """Only a [SEG] in the answer draws; one in a question is a word like any other."""
    assert words.segment in words.question("What is [SEG]?", pictures=1, pieces=1).after


def test_usual_answer_ends_at_seg(words: Words) -> None:
    """What is put into the model's mouth ends where the state is wanted; what is reported is the full answer."""
    assert said(words.usual_answer) == "Sure, [SEG]"
    assert words.usual_answer[-1] == words.segment
    assert words.usual_text == "Sure, [SEG].<|im_end|>"
    assert words.text([*words.usual_answer, words.stop]) == "Sure, [SEG]<|im_end|>"


def test_words_of_another_model_are_refused(tmp_path: Path) -> None:
    """A vocabulary without [SEG], or a file that is none, is named in the error."""
    other = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(other))
    with pytest.raises(ConfigurationError, match=r"lacks .*\[SEG\]"):
        Words.read(other)
    other.write_text("{}")
    with pytest.raises(ConfigurationError, match="is no tokenizer"):
        Words.read(other)
