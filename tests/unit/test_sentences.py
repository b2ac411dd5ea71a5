"""Sentences of errors on pages: each that is translated is one that something says; pages say it in their language."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import ConsoleSite
from web_client import csrf_of, signed_in, stranger

import console
import db
from console.web import languages, sentences
from console.web.sentences import SENTENCES, in_language
from dicom_core.job import JobState

NAMED = re.compile(r"{\w+}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


def _texts_of_the_code() -> set[str]:
    """Every text in the code of pages and record, with ``{}`` where a value is filled in."""
    found = set()
    for package in (console, db):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            if path.name == "sentences.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                    found.add("".join(map(str, parts)))
    return found


def test_every_sentence_is_one_that_something_says() -> None:
    """Who changes the words of an error is told to change them here as well, or Chinese pages fall back to English."""
    said = _texts_of_the_code() | {f"job {{}} cannot be tried again: {why}" for why in ("it is {}", NO_SEGMENTER)}
    assert {text for text in SENTENCES if NAMED.sub("{}", text) not in said} == set()
    assert len(SENTENCES) == len(set(SENTENCES))


NO_SEGMENTER = "no segmenter was chosen for it"


@pytest.mark.parametrize("text", SENTENCES)
def test_sentence_is_found_again(text: str) -> None:
    """With values in it that are hard to read: dots, braces, spaces. In English it stays as it is."""
    values = {name[1:-1]: f"1.2.{{{index}}} or (so)" for index, name in enumerate(NAMED.findall(text))}
    sentence = text.format(**values)
    assert in_language("en", sentence) == sentence
    assert in_language("zh", sentence) == languages.translate("zh", text, **values) != sentence


def test_words_for_states_and_roles_are_translated_in_sentences() -> None:
    """A state is said as on its badge, a role as on the page of accounts."""
    assert in_language("zh", "job 1f cannot be cancelled: it is DONE") == "任务 1f 不能取消：其状态为“完成”"
    assert in_language("en", "job 1f cannot be cancelled: it is DONE") == "job 1f cannot be cancelled: it is DONE"
    assert "“操作员”" in in_language("zh", "your account may not do this: it needs the role operator")


def test_what_is_not_known_is_said_as_it_is() -> None:
    """Nothing is guessed at."""
    assert in_language("zh", "the moon is full; wait for {tomorrow}") == "the moon is full; wait for {tomorrow}"
    assert sentences.in_language("zh", "") == ""


def test_pages_say_errors_in_their_language(site: ConsoleSite) -> None:
    """Not found, not possible now, not allowed, a form that is not filled in; programs get English all the same."""
    job = site.study("1.2.3", state=JobState.SKIPPED, segmenter="")
    with signed_in(site, roles=("operator",)) as client:
        client.cookies.set("vesselq_language", "zh")
        assert "没有收到过检查 1.2.99" in client.get("/studies/1.2.99").text
        assert "此地址没有页面" in client.get("/nothing").text
        form = {"csrf": csrf_of(client)}
        assert "请说明原因" in client.post(f"/jobs/{job.job_id}/retry", data=form).text
        assert "没有为它选择分割模型" in client.post(f"/jobs/{job.job_id}/retry", data={**form, "reason": "x"}).text
        assert "需要“审计员”角色" in client.get("/audit").text
        assert client.get("/api/v1/studies/1.2.99").json() == {"detail": "no study 1.2.99 was received"}
    client = stranger(site)
    client.cookies.set("vesselq_language", "zh")
    fields = {"csrf": csrf_of(client, "/sign-in"), "name": "nobody", "password": "x"}
    assert "用户名或密码错误" in client.post("/sign-in", data=fields).text
