"""The OHIF viewer for the tests: fetched once from the npm registry, checked, kept outside the tree.

The npm package holds the built web application. Its folders ``ort`` (neural networks in the browser, 136 MB) and
``dicom-microscopy-viewer`` (slides) are not needed for segmentations and left out.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import platformdirs

VERSION = "3.13.2"
CACHE_VARIABLE = "VESSELQ_TESTS_CACHE"
"""Names the folder that keeps what tests download; the user's cache folder otherwise."""
_PACKAGE = f"@ohif/app@{VERSION}"
_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""As the registry publishes it (``npm view @ohif/app@3.13.2 dist.integrity``)."""
_DIST = PurePosixPath("package/dist")
_LEFT_OUT = ("ort", "dicom-microscopy-viewer")


class ViewerMissingError(Exception):
    """A program or package that shows results is not here; the text says how to get it."""


def ohif_dist() -> Path:
    """The folder with OHIF's ``index.html``; the first call downloads 50 MB.

    Raises:
        ViewerMissingError: npm is missing, the registry does not answer, or it answers with other bytes.
    """
    configured = os.environ.get(CACHE_VARIABLE)
    cache = Path(configured) if configured else platformdirs.user_cache_path("vesselq-tests")
    dist = cache / f"ohif-{VERSION}"
    if not (dist / "index.html").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _unpack(_download(Path(folder)), Path(folder))
            try:
                (Path(folder) / _DIST).rename(dist)
            except OSError:  # another test run was quicker
                if not (dist / "index.html").is_file():
                    raise
    return dist


def _download(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ViewerMissingError("npm is missing (apt-get install npm): it fetches the OHIF viewer")
    done = subprocess.run(
        [npm, "pack", _PACKAGE, "--silent", "--pack-destination", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise ViewerMissingError(f"the npm registry did not give {_PACKAGE}: {done.stderr.strip()[-300:]}")
    found = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if found != _SHA512:
        raise ViewerMissingError(f"{_PACKAGE} from the npm registry is not the file that the tests were written for")
    return archives[0]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as package:
        package.extractall(folder, members=_wanted(package), filter="data")


def _wanted(package: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in package:
        path = PurePosixPath(member.name)
        if _DIST in path.parents and path.suffix != ".map" and path.relative_to(_DIST).parts[0] not in _LEFT_OUT:
            yield member
