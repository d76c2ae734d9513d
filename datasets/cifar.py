"""CIFAR-10 and CIFAR-100: 60,000 small colour images in 10 or 100 classes, from the published files.

Source: Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from physid.catalog import Entry, Option, one_of, whole
from physid.datasets import frozen
from physid.datasets.fetch import cache_folder, content, data_folder, download, kept
from physid.datasets.images import Images, Subset
from physid.errors import InputError, MissingError
from physid.training import Collection

Bytes = npt.NDArray[np.uint8]
SIDE = 32
PIXELS = 3 * SIDE * SIDE
SITE = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Published:
    """One of the two sets as it is published: folders and files of both versions, checksums, what a record holds.

    A record is `labels` bytes, of which the last is the class, then 3072: the red, green and blue planes, row by row.
    `records` is the sha256 of all records, training before test, where it is known; `hashes` are the md5 of single
    files that the publisher's python version is known by; `counts` are the images of every file.
    """

    name: str
    binary: tuple[str, ...]
    python: tuple[str, ...]
    counts: tuple[int, ...]
    labels: int
    keys: tuple[str, ...]
    names: tuple[str, str, str]
    archive: str
    archive_sha256: str
    records: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def folders(self) -> dict[str, str]:
        """Version -> the folder that the publisher's archive makes."""
        return {
            "binary": f"{self.name}-batches-bin" if self.labels == 1 else f"{self.name}-binary",
            "python": f"{self.name}-batches-py" if self.labels == 1 else f"{self.name}-python",
        }

    def files(self, version: str) -> tuple[str, ...]:
        """The files of images, training before test."""
        return self.binary if version == "binary" else self.python


CIFAR10 = Published(
    name="cifar-10",
    binary=tuple(f"{name}.bin" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")),
    python=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    counts=(10_000,) * 6,
    labels=1,
    keys=("labels",),
    names=("batches.meta.txt", "batches.meta", "label_names"),
    archive="cifar-10-binary.tar.gz",
    archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    records="013ba16d14ecc4829da62bf2af648ca30f600491ecb3e7f329c827db0dd17522",
)
CIFAR100 = Published(
    name="cifar-100",
    binary=("train.bin", "test.bin"),
    python=("train", "test"),
    counts=(50_000, 10_000),
    labels=2,
    keys=("coarse_labels", "fine_labels"),
    names=("fine_label_names.txt", "meta", "fine_label_names"),
    archive="cifar-100-binary.tar.gz",
    archive_sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    hashes=("16019d7e3df5f24257cddd939b257f8d", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
)


def present(published: Published, version: str = "any") -> tuple[str, Path] | None:
    """The version and the folder of the files under PHYSID_DATA or in the cache; None where there are none.

    Under PHYSID_DATA the folder may stand by itself or in one that is called cifar10 or cifar100.
    """
    roots = [cache_folder()]
    if (named := data_folder()) is not None:
        roots[:0] = [named, named / published.name.replace("-", "")]
    for root in roots:
        for kind in ("binary", "python") if version == "any" else (version,):
            place = root / published.folders[kind]
            if kept(place / published.files(kind)[0]):
                return kind, place
    return None


def find(published: Published, version: str = "any") -> tuple[str, Path]:
    """The version and the folder of the files: those that are present, or the publisher's, fetched into the cache.

    Errors: MissingError when there is none and the publisher's archive cannot be fetched or is another one.
    """
    if (found := present(published, version)) is not None:
        return found
    if version == "python":
        raise MissingError(
            f"{published.folders['python']} is neither under PHYSID_DATA nor in {cache_folder()}. Put it there, or "
            "leave version out: the binary version is fetched, which needs no unpickling."
        )
    return "binary", fetch(published)


def fetch(published: Published) -> Path:
    """The folder of the binary version in the cache, from the publisher's archive; it appears whole or not at all."""
    target = cache_folder() / published.folders["binary"]
    archive = cache_folder() / published.archive
    if not kept(archive):
        try:
            download(SITE + published.archive, archive, sha256=published.archive_sha256)
        except MissingError as error:
            raise MissingError(f"{error} Or put {target.name} into the folder that PHYSID_DATA names.") from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        try:
            unpack(archive, Path(folder), (*published.binary, published.names[0]))
        except (tarfile.TarError, EOFError, OSError, KeyError) as error:
            raise InputError(f"{archive} cannot be unpacked ({error}). Remove it to have it fetched again.") from None
        Path(folder).chmod(0o755)
        Path(folder).rename(target)
        Path(folder).mkdir()  # for the context to remove
    archive.unlink()
    return target


def unpack(archive: Path, folder: Path, names: Sequence[str]) -> None:
    """Write the plain files `names` of the archive, by their last name, into `folder`; nothing else is taken."""
    wanted = set(names)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = Path(member.name).name
            if name in wanted and member.isfile() and (file := tar.extractfile(member)) is not None:
                (folder / name).write_bytes(file.read())
                wanted.discard(name)
    if wanted:
        raise KeyError(f"it lacks {', '.join(sorted(wanted))}")


def records(published: Published, version: str, folder: Path) -> tuple[list[Bytes], str]:
    """The records, an array [N, labels + 3072] for each file, of which the last is the test set, and their sha256.

    Errors: InputError for a file that is missing, cut off, changed, or something else.
    """
    read = _binary if version == "binary" else _python
    parts = [
        read(published, folder / name, count)
        for name, count in zip(published.files(version), published.counts, strict=True)
    ]
    return parts, _verified(published, version, folder, parts)


def _there(path: Path) -> Path:
    if not kept(path):
        raise InputError(f"{path} is missing, and other files of the set are there. Put it beside them.")
    return path


def _binary(published: Published, path: Path, count: int) -> Bytes:
    found, width = np.frombuffer(bytearray(content(_there(path))), np.uint8), published.labels + PIXELS
    if len(found) != count * width:
        raise InputError(
            f"{path} has {len(found)} bytes and not {count * width}: it is cut off, or another file. Put the "
            "published one there."
        )
    return found.reshape(count, width)


def _python(published: Published, path: Path, count: int) -> Bytes:
    found = frozen.read(path, content(_there(path)))
    columns = [np.asarray(found.get(key, ())) for key in published.keys]
    data = found.get("data")
    good = isinstance(data, np.ndarray) and data.shape == (count, PIXELS)
    if not good or any(c.shape != (count,) or c.dtype.kind != "i" or c.min() < 0 or c.max() > 255 for c in columns):
        raise InputError(
            f"{path} does not hold {count} images with {', '.join(published.keys)}: it is another file. Put the "
            "published one there."
        )
    joined: Bytes = np.concatenate([*(c.astype(np.uint8)[:, None] for c in columns), data], axis=1)
    return joined


def _verified(published: Published, version: str, folder: Path, parts: list[Bytes]) -> str:
    """The sha256 of all records, after a comparison with what the publisher's files are known by.

    Where no checksum is known, of CIFAR-100's binary files outside of their archive, the classes are counted.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.data)
    if published.records:
        wrong = digest.hexdigest() != published.records
    elif version == "python" and published.hashes:
        found = [hashlib.md5(content(folder / name)).hexdigest() for name in published.python]
        wrong = found != list(published.hashes)
    else:
        every = [np.bincount(part[:, published.labels - 1]) for part in parts]
        wrong = any(len(set(counts.tolist())) != 1 for counts in every)
    if wrong:
        raise InputError(
            f"the files in {folder} are not the published ones: a pixel or a label was changed. Put the originals "
            "there, or remove the folder to have them fetched."
        )
    return digest.hexdigest()


def class_names(published: Published, version: str, folder: Path) -> tuple[str, ...]:
    """The names of the classes. Errors: InputError when their file is missing or is something else."""
    text, pickled, key = published.names
    if version == "binary":
        return tuple(content(_there(folder / text)).decode("utf-8", "replace").split())
    found = frozen.read(folder / pickled, content(_there(folder / pickled))).get(key)
    if not isinstance(found, list) or not all(isinstance(name, str | bytes) for name in found):
        raise InputError(f"{folder / pickled} names no classes ({key}). Put the published file there.")
    return tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in found)


def as_subset(published: Published, parts: Sequence[Bytes], count: int | None) -> Subset:
    """Records as images [N, 32, 32, 3] and classes [N], of the first `count` of them."""
    there = sum(map(len, parts))
    if count is not None and count > there:
        raise InputError(f"{count} images are asked for and {there} are there. Ask for fewer.")
    images = torch.empty(there if count is None else count, SIDE, SIDE, 3, dtype=torch.uint8)
    labels = torch.empty(len(images), dtype=torch.int64)
    start = 0
    for part in parts:
        rows = torch.from_numpy(part[: len(images) - start])
        here = slice(start, start + len(rows))
        images[here] = rows[:, published.labels :].unflatten(1, (3, SIDE, SIDE)).permute(0, 2, 3, 1)
        labels[here] = rows[:, published.labels - 1]
        start += len(rows)
    return Subset(images, labels)


def load(published: Published, *, images: int | None, test_images: int | None, augment: str, version: str) -> Images:
    """The images with crop and flip; the first `images` of the training set and `test_images` of the test set.

    Errors: as for `find` and `records`.
    """
    kind, folder = find(published, version)
    parts, digest = records(published, kind, folder)
    options: dict[str, Any] = {"images": images, "test_images": test_images, "augment": augment, "version": version}
    return Images(
        name=published.name.replace("-", ""),
        train=as_subset(published, parts[:-1], images),
        held_out=as_subset(published, parts[-1:], test_images),
        classes=class_names(published, kind, folder),
        augment=augment == "yes",
        source=f"{published.name.upper()}, Krizhevsky (2009)",
        data_hash=digest,
        options=options,
    )


def load10(**options: Any) -> Images:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in 10 classes; see `load`."""
    return load(CIFAR10, **options)


def load100(**options: Any) -> Images:
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 in 100 classes; see `load`."""
    return load(CIFAR100, **options)


OPTIONS = {
    "images": Option("How many training images, from the first on.", whole(1), None),
    "test_images": Option("How many test images, from the first on.", whole(1), None),
    "augment": Option("yes or no: random crops and flips.", one_of("yes", "no"), "yes"),
    "version": Option("binary, python, or any of them that is there.", one_of("binary", "python", "any"), "any"),
}
TEN: Entry[Collection] = Entry("cifar10", "50,000 and 10,000 photographs of 32 x 32 in 10 classes.", OPTIONS, load10)
HUNDRED: Entry[Collection] = Entry(
    "cifar100", "50,000 and 10,000 photographs of 32 x 32 in 100 classes.", OPTIONS, load100
)
