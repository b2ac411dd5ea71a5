"""Finding segmenters by entry point, and what the registry says of wrong names and settings."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from dicom_core.errors import ConfigurationError, NotFoundError
from dicom_core.prompt import PromptKind
from worker.model_folder.manifest import ModelManifest, write_manifest
from worker.model_folder.opening import files_of
from worker.segmenters import registry
from worker.segmenters.chain import ChainSegmenter
from worker.segmenters.interface import SegmenterInfo
from worker.segmenters.ridge import RidgeSegmenter

INFO = SegmenterInfo("needy", "1", "needs a folder", frozenset(), frozenset())


class NeedySegmenter:
    """Has a setting without default."""

    info = INFO

    def __init__(self, *, device: str, folder: str, threshold: float = 0.5) -> None:
        self.made_with = (device, folder, threshold)


class BoxSegmenter:
    """Runs a folder of weights and takes boxes."""

    info = replace(INFO, name="boxes", prompts=frozenset({PromptKind.BOXES}), needs_folder=True)

    def __init__(self, *, folder: str, accept_license: str = "", device: str = "cpu") -> None:
        self.made_with = (device, folder)


class SilentSegmenter:
    """Says nothing of itself."""


class OpenSegmenter:
    """Checks its settings itself."""

    info = INFO

    def __init__(self, **settings: object) -> None:
        self.settings = settings


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the classes above, and two plug-ins that cannot be imported, beside nothing else."""
    module = ModuleType("plugin_of_the_test")
    classes = {"needy": NeedySegmenter, "silent": SilentSegmenter, "open": OpenSegmenter, "boxes": BoxSegmenter}
    vars(module).update(classes)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    targets = {name: f"{module.__name__}:{name}" for name in (*classes, "gone")}
    targets["absent"] = "no_such_module_anywhere:Segmenter"
    points = [EntryPoint(name, target, registry.GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])


def test_ridge_is_registered() -> None:
    """The segmenter that needs no weights is found by its name, and its info says so."""
    assert "ridge" in registry.names()
    assert registry.info("ridge") is RidgeSegmenter.info
    assert RidgeSegmenter.info in registry.available()
    assert isinstance(registry.load("ridge", {"ridge": {"threshold": 0.4}}, "cpu"), RidgeSegmenter)


def test_info_is_read_without_torch() -> None:
    """Reading info, checking settings and making the ridge segmenter import neither torch nor transformers."""
    code = (
        "import sys; from worker.segmenters import registry; registry.info('ridge'); registry.names();"
        "registry.check_settings('ridge', {'ridge': {'threshold': 0.5}}); registry.load('ridge', {}, 'cpu');"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_unknown_name_lists_the_known_ones() -> None:
    """A name that nobody registered is not found, and the text says which there are."""
    with pytest.raises(NotFoundError, match=r"no segmenter 'rigde'; known are: .*ridge"):
        registry.info("rigde")
    with pytest.raises(NotFoundError):
        registry.load("rigde", {}, "cpu")


@pytest.mark.parametrize("key", ["treshold", "device"])
def test_wrong_setting_names_itself_and_the_allowed_ones(key: str) -> None:
    """A misspelt setting, or the device among the settings, is an error before anything is loaded."""
    with pytest.raises(ConfigurationError, match=rf"\[models.ridge\] knows no setting '{key}'.*polarity.*threshold"):
        registry.load("ridge", {"ridge": {key: "cpu"}}, "cpu")
    with pytest.raises(ConfigurationError, match=key):
        registry.check_settings("ridge", {"ridge": {key: "cpu"}})


@pytest.mark.usefixtures("plugins")
def test_missing_setting_is_named() -> None:
    """A setting without default must be there; with it, the class gets device and settings."""
    with pytest.raises(ConfigurationError, match=r"needs the setting 'folder'; allowed are: folder, threshold"):
        registry.load("needy", {}, "cpu")
    made = registry.load("needy", {"needy": {"folder": "weights"}}, "cuda:0")
    assert isinstance(made, NeedySegmenter)
    assert made.made_with == ("cuda:0", "weights", 0.5)


@pytest.mark.usefixtures("plugins")
def test_class_that_takes_anything_gets_anything() -> None:
    """A segmenter with open keyword arguments checks them itself."""
    made = registry.load("open", {"open": {"prompted": True}}, "cpu")
    assert isinstance(made, OpenSegmenter)
    assert made.settings == {"device": "cpu", "prompted": True}


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("name", ["gone", "absent"])
def test_broken_plugin_is_named(name: str) -> None:
    """A plug-in that cannot be imported is a configuration error with its name, for whoever installs it."""
    with pytest.raises(ConfigurationError, match=rf"'{name}'.*cannot be imported"):
        registry.info(name)


@pytest.mark.usefixtures("plugins")
def test_names_need_no_working_plugin() -> None:
    """Names are read from metadata: a broken plug-in does not hide the others."""
    assert registry.names() == ("absent", "boxes", "gone", "needy", "open", "silent")


@pytest.mark.usefixtures("plugins")
def test_class_without_info_is_refused() -> None:
    """A segmenter that says nothing of itself is a configuration error."""
    with pytest.raises(ConfigurationError, match="no SegmenterInfo"):
        registry.info("silent")


def test_no_segmenter_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any entry point (a tree that was never installed) the text says that there are none."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [])  # noqa: ARG005 - called by keyword
    assert registry.available() == ()
    with pytest.raises(NotFoundError, match="known are: none"):
        registry.info("ridge")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights for the system ``boxes``, under a licence that must be accepted."""
    (tmp_path / "weights.safetensors").write_bytes(b"1234")
    files = files_of(tmp_path, ["weights.safetensors"])
    manifest = ModelManifest(system="boxes", name="Coronary", version="7", license="LicenseRef-research", files=files)
    write_manifest(tmp_path, manifest)
    return tmp_path


@pytest.mark.usefixtures("plugins")
def test_models_of_one_system_stand_side_by_side(folder: Path) -> None:
    """A name of the settings stands for a system with a folder; its info is that of the folder's manifest."""
    entry = {"system": "boxes", "folder": str(folder), "accept_license": "LicenseRef-research"}
    models = {"heart": entry, "leg": {**entry, "folder": "elsewhere"}}
    info = registry.info("heart", models)
    assert (info.name, info.version, len(info.weights_sha256)) == ("Coronary", "7", 64)
    assert info.prompts == frozenset({PromptKind.BOXES})
    assert registry.info("boxes").name == "boxes"
    registry.check_settings("leg", models)
    made = registry.load("leg", models, "cpu")
    assert isinstance(made, BoxSegmenter)
    assert made.made_with == ("cpu", "elsewhere")
    with pytest.raises(ConfigurationError, match="elsewhere is no folder"):
        registry.info("leg", models)
    with pytest.raises(ConfigurationError, match=r"LicenseRef-research.*not permissive"):
        registry.info("heart", {"heart": {**entry, "accept_license": ""}})


@pytest.mark.usefixtures("plugins")
def test_wrong_systems_are_named() -> None:
    """A system that is not installed, and a name that is neither a system nor in the settings with one."""
    with pytest.raises(
        ConfigurationError, match=r"\[models.heart\] has the system 'sam', which is not installed; .*needy"
    ):
        registry.info("heart", {"heart": {"system": "sam"}})
    for system in (5, ["boxes"], {"boxes": 1}):
        with pytest.raises(ConfigurationError, match="a system that is no text"):
            registry.info("heart", {"heart": {"system": system}})
    with pytest.raises(NotFoundError, match=r"no segmenter 'heart'; known are: .*open.*; name its system"):
        registry.info("heart", {"heart": {"folder": "x"}})
    with pytest.raises(NotFoundError, match=r"no segmenter 'hart'; known are: .*heart"):
        registry.check_settings("hart", {"heart": {"system": "open"}})
    with pytest.raises(
        ConfigurationError, match=r"\[models.heart\] knows no setting 'fold'; allowed are: accept_license"
    ):
        registry.check_settings("heart", {"heart": {"system": "boxes", "fold": "x"}})


@pytest.mark.usefixtures("plugins")
def test_names_that_rules_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the settings, and the systems that are something without a folder."""
    points = [point for point in registry.entry_points(group=registry.GROUP) if point.name in ("open", "boxes")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)  # noqa: ARG005 - called by keyword
    assert registry.configured({}) == ("open",)
    assert registry.configured({"heart": {"system": "boxes"}, "open+heart": {"near": 1}}) == ("heart", "open")


@pytest.mark.usefixtures("plugins")
def test_chain_is_composed() -> None:
    """A word of several names makes each of them, with the settings of the chain from the table of the word."""
    models = {"heart": {"system": "boxes", "folder": "x"}, "open+heart": {"agreement": 0.7}}
    registry.check_settings("open+heart", models)
    chain = registry.load("open+heart", models, "cpu")
    assert isinstance(chain, ChainSegmenter)
    assert chain.info.name == "needy+boxes"
    assert registry.info("open+boxes").summary == "needy, its result refined by boxes"
    with pytest.raises(
        ConfigurationError, match=r"\[models.open\+heart\] knows no setting 'agrement'; .*most_boxes, near"
    ):
        registry.check_settings("open+heart", {**models, "open+heart": {"agrement": 1}})
    with pytest.raises(ConfigurationError, match="needy cannot refine another"):
        registry.info("boxes+open")
    with pytest.raises(NotFoundError, match="no segmenter 'hart'"):
        registry.load("open+hart", models, "cpu")
