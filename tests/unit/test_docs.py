"""The documentation is up to date and whole: generated parts, links, pictures, and what must not be in it."""

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import DOCS, PAGES, REFERENCE, ROOT, page_name, prose
from PIL import Image

MOST_PICTURE_BYTES = 1_000_000
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_PORTS_OF_ALL = "8042|8043|8044|11112|6379"
_MACHINE = re.compile(
    r"(?<![\w./])/(?:root|home|work|Users|mnt)/|/tmp/\w|\b(?:localhost|127\.0\.0\.1):(?!(?:"
    + _PORTS_OF_ALL
    + r")\b)\d+"
)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """``docs/generate.py``, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        specification = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    """`python docs/generate.py --check` finds nothing to change."""
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_a_stale_page_is_found_and_written_anew(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed table makes the check fail and name the page; writing brings the table back."""
    page = tmp_path / "states.md"
    right = (REFERENCE / "states.md").read_text(encoding="utf-8")
    page.write_text(right.replace("`QUEUED`", "`WAITING`", 1), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != right
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check", "--folder", str(tmp_path)])
    assert generator.main() == 1
    assert "states.md" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["generate.py", "--folder", str(tmp_path)])
    assert generator.main() == 0
    assert page.read_text(encoding="utf-8") == right


def test_an_unknown_part_is_an_error(generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks for a part which nobody makes is told, not passed over."""
    (tmp_path / "page.md").write_text("<!-- generated: nonsense -->\n<!-- end of nonsense -->\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="nonsense"):
        generator.main()


def test_every_part_is_used(generator: ModuleType) -> None:
    """What can be made from the code stands on some page, and each part is closed."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    begun = re.findall(r"<!-- generated: (\w+) -->", text)
    assert sorted(begun) == sorted(generator.BLOCKS)
    assert sorted(re.findall(r"<!-- end of (\w+) -->", text)) == sorted(begun)


def test_readme_is_short() -> None:
    """The README has at most 150 lines and says what vesselq is not."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for needed in (
        "make demo",
        "make test",
        "Not a medical device",
        "docs/pictures/",
        "Apache-2.0",
        "docs/tutorial.md",
    ):
        assert needed in text


def test_changelog_knows_the_version() -> None:
    """The changelog has a section for what is not released, which names the version of the package."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text
    assert version("vesselq") in text


def _anchors(page: Path) -> set[str]:
    """The anchors that headings make, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists, with its heading."""
    for target in (match["target"] for match in _LINK.finditer(prose(page))):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{page_name(page)}: {target}"
        assert file.is_relative_to(ROOT)
        assert not anchor or anchor in _anchors(file), f"{page_name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_files_exist(page: Path) -> None:
    """A file of the project that a page names exists."""
    for name in re.findall(r"`((?:tests|docs|docker|benchmarks|dicom_core)/[\w./*-]+)`", prose(page)):
        if name != "docker/secrets/":
            assert list(ROOT.glob(name)), f"{page_name(page)}: {name}"


def test_every_page_can_be_reached() -> None:
    """From the README every page is some links away."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [match["target"].partition("#")[0] for match in _LINK.finditer(prose(page))]
        waiting += [(page.parent / t).resolve() for t in targets if t and not t.startswith("http")]
    assert set(PAGES) - seen == set()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_machine_of_ours_is_named(page: Path) -> None:
    """No page names a folder or a port of the machine on which it was written."""
    assert _MACHINE.findall(page.read_text(encoding="utf-8")) == []


def test_pictures_are_small_and_say_nothing_else() -> None:
    """Pictures are below a megabyte, carry no text, and are shown somewhere."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = sorted((DOCS / "pictures").iterdir())
    assert pictures
    for path in pictures:
        assert f"pictures/{path.name}" in text, path.name
        assert path.stat().st_size < MOST_PICTURE_BYTES
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.info.keys() <= {"transparency"}
                assert picture.width > 600
