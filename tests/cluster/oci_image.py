"""Makes an OCI image out of programs of this machine and the shared libraries that they need.

  oci_image.py make STORE LAYOUT NAME PROGRAM...   an OCI layout in the folder LAYOUT; layers are kept in STORE for other images
  oci_image.py pack LAYOUT HAS                     the layout as a tar on standard output, without the blobs that the file HAS lists

There are three layers, from what never changes to what always does: busybox and a system's files, libraries, programs. Making one
again takes the time to look at its files: their paths, sizes and times name the layer.
"""

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile

BUSYBOX = "/bin/busybox"
USER = 65532
LIBRARIES = "usr/lib/palimpsest"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SYSTEM_FILES = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\npalimpsest:x:{USER}:{USER}::/home/palimpsest:/bin/sh\n",
    "etc/group": f"root:x:0:\npalimpsest:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def shared_libraries(program):
    """Paths by the names that the loader looks for; the loader itself has an absolute name."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True)
    if "not a dynamic executable" in listed.stderr or "statically linked" in listed.stdout:
        return {}
    if listed.returncode != 0 or "not found" in listed.stdout:
        sys.exit(f"{program}: ldd finds not all of its libraries: {(listed.stdout + listed.stderr).strip()}")
    found = {}
    for line in listed.stdout.splitlines():
        if match := re.match(r"\s*(\S+) => (/\S+)", line):
            found[match[1]] = match[2]
        elif match := re.match(r"\s*(/\S+) \(", line):
            found[match[1]] = match[1]
    return found


def place(library):
    """Where a library goes in the image: where LD_LIBRARY_PATH finds it, the loader where programs name it."""
    return library[1:] if library.startswith("/") else f"{LIBRARIES}/{library}"


def entry(name, **fields):
    info = tarfile.TarInfo(name)
    info.mode = 0o755
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def add_file(archive, name, path):
    info = entry(name, size=os.stat(path).st_size)
    with open(path, "rb") as file:
        archive.addfile(info, file)


def add_system(archive):
    """Folders, users, and the names of all of busybox's commands."""
    folders = ["bin", "etc", "usr", "usr/bin", "usr/lib", LIBRARIES, "proc", "sys", "dev", "root"]
    for folder in folders:
        archive.addfile(entry(folder, type=tarfile.DIRTYPE))
    archive.addfile(entry("tmp", type=tarfile.DIRTYPE, mode=0o1777))
    archive.addfile(entry("home", type=tarfile.DIRTYPE))
    archive.addfile(entry("home/palimpsest", type=tarfile.DIRTYPE, uid=USER, gid=USER))
    for name, text in SYSTEM_FILES.items():
        archive.addfile(entry(name, mode=0o644, size=len(text)), io.BytesIO(text.encode()))
    commands = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for command in commands:
        if command != "busybox":
            archive.addfile(entry(f"bin/{command}", type=tarfile.SYMTYPE, linkname="busybox"))


class HashingFile:
    """Writes to a file and digests what goes by."""

    def __init__(self, file):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, piece):
        self.digest.update(piece)
        return self.file.write(piece)


def layer(store, files, system=False):
    """The digest of a layer that holds `files`, image names by paths; its tar is kept in the store under its digest."""
    stats = [(name, path, os.stat(path)) for name, path in sorted(files.items())]
    inputs = [(name, path, stat.st_size, stat.st_mtime_ns) for name, path, stat in stats]
    with open(__file__, "rb") as recipe:
        key = hashlib.sha256(repr((inputs, system)).encode() + recipe.read()).hexdigest()
    known = f"{store}/layers/{key}"
    if os.path.exists(known):
        with open(known) as file:
            digest = file.read()
        if os.path.exists(f"{store}/blobs/{digest}"):
            return digest
    partial = f"{store}/blobs/partial"
    with open(partial, "wb") as file:
        hashing = HashingFile(file)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive:
            if system:
                add_system(archive)
            for name, path in sorted(files.items()):
                add_file(archive, name, path)
    digest = hashing.digest.hexdigest()
    os.rename(partial, f"{store}/blobs/{digest}")
    with open(known, "w") as file:
        file.write(digest)
    return digest


def write_json(layout, value):
    """Writes a blob and gives its descriptor."""
    text = json.dumps(value, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(text)
    return {"digest": f"sha256:{digest}", "size": len(text)}


def make(store, layout, name, *programs):
    for folder in (f"{store}/layers", f"{store}/blobs", f"{layout}/blobs/sha256"):
        os.makedirs(folder, exist_ok=True)
    for old in os.listdir(f"{layout}/blobs/sha256"):
        os.remove(f"{layout}/blobs/sha256/{old}")
    for program in programs:
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is no program: build it first")

    base = {"bin/busybox": BUSYBOX} | {place(library): path for library, path in shared_libraries(BUSYBOX).items()}
    libraries = {}
    for program in programs:
        libraries |= {place(library): path for library, path in shared_libraries(program).items()}
    libraries = {place: path for place, path in libraries.items() if place not in base}
    binaries = {f"usr/bin/{os.path.basename(program)}": program for program in programs}
    layers = [layer(store, base, system=True)] + [layer(store, files) for files in (libraries, binaries) if files]

    kind = "application/vnd.oci.image"
    config = write_json(layout, {
        "architecture": ARCHITECTURES[platform.machine()], "os": "linux",
        "config": {
            # Without a program it is what holds a pod's namespaces: it sleeps.
            "Entrypoint": [f"/{list(binaries)[0]}"] if binaries else ["/bin/sleep", "2147483647"],
            "Env": ["PATH=/usr/bin:/bin", f"LD_LIBRARY_PATH=/{LIBRARIES}", "HOME=/home/palimpsest"],
            "User": f"{USER}:{USER}", "WorkingDir": "/home/palimpsest",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
        "history": [{"created_by": "tests/cluster/image.sh"} for _ in layers],
    })
    descriptors = []
    for digest in layers:
        blob = f"{layout}/blobs/sha256/{digest}"
        os.link(f"{store}/blobs/{digest}", blob)
        descriptors.append({"mediaType": f"{kind}.layer.v1.tar", "digest": f"sha256:{digest}", "size": os.stat(blob).st_size})
    manifest = write_json(layout, {
        "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **config}, "layers": descriptors,
    })
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
    index = {"schemaVersion": 2, "manifests": [{"mediaType": f"{kind}.manifest.v1+json", **manifest, "annotations": annotations}]}
    with open(f"{layout}/index.json", "w") as file:
        json.dump(index, file)
    with open(f"{layout}/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    # What no layout links to belonged to programs of yesterday.
    for blob in os.scandir(f"{store}/blobs"):
        if blob.stat().st_nlink == 1:
            os.remove(blob)


def pack(layout, has):
    with open(has) as file:
        held = {line.strip().removeprefix("sha256:") for line in file}
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive:
        for name in ("oci-layout", "index.json"):
            archive.add(f"{layout}/{name}", name)
        for digest in os.listdir(f"{layout}/blobs/sha256"):
            if digest not in held:
                archive.add(f"{layout}/blobs/sha256/{digest}", f"blobs/sha256/{digest}")


if __name__ == "__main__":
    {"make": make, "pack": pack}[sys.argv[1]](*sys.argv[2:])
