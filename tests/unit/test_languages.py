"""The words of the pages: every text has its Chinese, and the language is the one that was chosen or wanted."""

import json
import re
from collections.abc import Iterator

import pytest
from jinja2.ext import extract_from_ast

from console.web import languages, rendering, sentences, words
from console.web.languages import LANGUAGES, translate

NAMES_IN_BRACES = re.compile(r"{\w+}")
MAPPINGS_OF_WORDS = [
    value
    for name, value in vars(words).items()
    if name.isupper() and isinstance(value, dict) and name != "TONES"
]  # fmt: skip


def _texts() -> Iterator[tuple[str, str]]:
    """Every text of the templates with where it is, and those that templates look up by value."""
    environment = rendering.environment("en")
    for path in sorted(rendering.TEMPLATES.glob("**/*.html")):
        tree = environment.parse(path.read_text(encoding="utf-8"))
        for line, _, found in extract_from_ast(tree, ("_",)):
            text = found[0] if isinstance(found, tuple) else found  # the others are the values to fill in
            if text:
                yield text, f"{path.name}:{line}"
    for mapping in (*MAPPINGS_OF_WORDS, rendering.APPEARANCES):
        for text in mapping.values():
            yield text, "words.py"
    for _, text, _ in rendering.NAVIGATION:
        yield text, "rendering.py"
    for text in sentences.SENTENCES:
        yield text, "sentences.py"
    for unit in ("s", "min", "h", "d"):
        yield f"{{number}} {unit}", "rendering.py"


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_catalogue_and_pages_have_the_same_texts(language: str) -> None:
    """No page shows English in another language, and no translation is left over from a page that is gone."""
    texts = dict(_texts())
    known = languages.catalogue(language)
    missing = {text: place for text, place in texts.items() if text not in known}
    assert missing == {}
    assert set(known) - set(texts) == set()


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_catalogue_is_in_order_and_keeps_the_values(language: str) -> None:
    """The file is sorted, names nothing twice, and each translation shows the same values as its text."""
    pairs = json.loads(
        (languages._FOLDER / f"{language}.json").read_text(encoding="utf-8"), object_pairs_hook=lambda found: found
    )
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys))
    for text, translation in pairs:
        assert translation.strip() == translation != ""
        assert sorted(NAMES_IN_BRACES.findall(text)) == sorted(NAMES_IN_BRACES.findall(translation)), text


def test_translation_replaces_names_and_falls_back_to_english() -> None:
    """Values stand where their names stood; a text that nobody translated is shown as it is."""
    assert translate("zh", "Studies") == "检查"
    assert translate("en", "{number} min", number=4) == "4 min"
    assert translate("zh", "nobody wrote this") == "nobody wrote this"


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de-DE,de;q=0.9,zh;q=0.5", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("fr", "en"),
        ("", "en"),
        ("*;q=0.1, ;;;", "en"),
    ],
)
def test_language_that_the_browser_wants(accepted: str, wanted: str) -> None:
    """The first language of the header that there is, English when there is none."""
    assert languages._wanted(accepted) == wanted
