"""The packages that bench.gpu needs beside torch, torchvision, timm, numpy, pyarrow and OpenCV.

    python -m bench.gpu_wheels FOLDER                  # collects them, for this Python
    python -m bench.gpu_wheels FOLDER --python 3.12

Copy the folder to a machine without a network, and install there what it lacks:

    python -m pip install --no-index --no-deps FOLDER/*.whl
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIVEN = ("torch", "torchvision", "timm", "numpy", "pyarrow", "opencv-python-headless")
PACKAGES = (
    "annotated-types",
    "cloudpickle",
    "fsspec",
    "joblib",
    "lightning-fabric",
    "lightning-utilities",
    "loky",
    "packaging",
    "pillow",
    "pillow-heif",
    "psutil",
    "pydantic",
    "pydantic-core",
    "ruamel-yaml",
    "safetensors",
    "simplejpeg",
    "tqdm",
    "typing-extensions",
    "typing-inspection",
)
MAX_MEGABYTES = 60


def pins() -> list[str]:
    """The packages in the versions of requirements.lock."""
    locked = dict(
        re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.M)
    )
    return [f"{name}=={locked[name]}" for name in PACKAGES]


def collect(folder: Path, python: str) -> float:
    """Download the wheels for Linux; their size in 10^6 bytes."""
    target = [f"--python-version={python}", "--only-binary=:all:", "--no-deps", f"--dest={folder}"]
    platforms = [f"--platform=manylinux{version}_x86_64" for version in ("_2_28", "_2_17", "2014")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *target, *platforms, *pins()],
        check=True,
    )
    return sum(path.stat().st_size for path in folder.glob("*.whl")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=".".join(map(str, sys.version_info[:2])))
    options = parser.parse_args()
    megabytes = collect(options.folder, options.python)
    print(f"{len(PACKAGES)} wheels, {megabytes:.1f} MB, in {options.folder}")
    if megabytes > MAX_MEGABYTES:
        sys.exit(f"error: more than {MAX_MEGABYTES} MB")


if __name__ == "__main__":
    main()
