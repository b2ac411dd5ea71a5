"""The tests of the record once more, on PostgreSQL: same tests, same answers.

Every ``test_record_*.py`` below ``tests/unit`` is loaded here, with its fixtures, whose names must differ; those of the
record see this folder and hand out PostgreSQL, under the account of the processes.
"""

import importlib.util
from pathlib import Path

_UNIT_TESTS = Path(__file__).parents[1] / "unit"

for _path in sorted(_UNIT_TESTS.glob("test_record_*.py")):
    _specification = importlib.util.spec_from_file_location(f"{_path.stem}_on_postgresql", _path)
    assert _specification is not None
    assert _specification.loader is not None
    _module = importlib.util.module_from_spec(_specification)
    _specification.loader.exec_module(_module)
    for _name, _thing in vars(_module).items():
        if _name.startswith("test_"):
            globals()[f"{_path.stem}_{_name.removeprefix('test_')}"] = _thing
        elif type(_thing).__name__ == "FixtureFunctionDefinition":
            assert _name not in globals(), f"another file has a fixture {_name}"
            globals()[_name] = _thing
