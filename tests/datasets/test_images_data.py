"""CIFAR's loaders and the minibatches of images: what is read, what is refused, and what augmentation does."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from physid.datasets import cifar, frozen, toyimages
from physid.datasets.cifar import CIFAR10, CIFAR100, Published
from physid.datasets.images import Images, Subset, shifted
from physid.errors import InputError, MissingError

COUNTS = (4, 4, 3)


def small(published: Published, **changes: Any) -> Published:
    """The same set with three files of a few images, and no known checksums."""
    defaults = {
        "binary": ("a.bin", "b.bin", "test.bin"),
        "python": ("a", "b", "test"),
        "counts": COUNTS,
        "records": "",
        "hashes": (),
    }
    return replace(published, **{**defaults, **changes})


def rows(published: Published) -> list[np.ndarray[Any, Any]]:
    """Random records of every file."""
    random = np.random.default_rng(1)
    parts = [random.integers(0, 256, (count, published.labels + 3072), dtype=np.uint8) for count in COUNTS]
    for part in parts:
        part[:, : published.labels] = np.arange(len(part))[:, None]
    return parts


def digest(parts: list[np.ndarray[Any, Any]]) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def as_python2(data: np.ndarray[Any, Any], **lists: list[int]) -> bytes:
    """A dictionary as Python 2 pickled it: protocol 2, with the array's bytes as a string."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    shape = b"".join(b"J" + struct.pack("<i", size) for size in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"\x86cnumpy\ndtype\nq\x03U\x02u1K\x00K\x01\x87Rq\x04"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", data.nbytes)
        + data.tobytes()
        + b"tb"
    )
    named = b"".join(
        text(key.encode()) + b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"
        for key, values in lists.items()
    )
    return b"\x80\x02}q\x00(" + named + text(b"data") + array + text(b"batch_label") + text(b"one of 5") + b"u."


def write(folder: Path, published: Published, version: str, parts: list[np.ndarray[Any, Any]]) -> Path:
    """The set's files in `folder`, as the publisher has them."""
    place = folder / published.folders[version]
    place.mkdir(parents=True)
    names = [f"class{k}" for k in range(4)]
    for name, part in zip(published.files(version), parts, strict=True):
        if version == "binary":
            (place / name).write_bytes(part.tobytes())
            continue
        labels = {key: part[:, i].tolist() for i, key in enumerate(published.keys)}
        (place / name).write_bytes(as_python2(part[:, published.labels :], **labels))
    if version == "binary":
        (place / published.names[0]).write_text("\n".join(names) + "\n")
    else:
        (place / published.names[1]).write_bytes(pickle.dumps({published.names[2]: names}, protocol=2))
    return place


def read(published: Published, version: str = "any", **options: Any) -> Images:
    return cifar.load(
        published, **{"images": None, "test_images": None, "augment": "no", "version": version, **options}
    )


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("published", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("nested", [False, True])
def test_both_versions_hold_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Published, version: str, nested: bool
) -> None:
    parts = rows(published)
    known = small(published, records=digest(parts))
    write(tmp_path / "cifar10" if nested and published is CIFAR10 else tmp_path, known, version, parts)
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path))
    found = read(known)
    planes = np.concatenate(parts[:2])[:, published.labels :].reshape(8, 3, 32, 32)
    assert np.array_equal(found.train.images.numpy().transpose(0, 3, 1, 2), planes)
    assert found.train.labels.tolist() == [0, 1, 2, 3] * 2
    assert found.held_out.labels.tolist() == [0, 1, 2]
    assert found.classes == ("class0", "class1", "class2", "class3")
    assert found.describe()["data_hash"] == digest(parts)
    assert read(known, images=5).count == 5
    with pytest.raises(InputError, match="100 images are asked for and 8 are there"):
        read(known, images=100)


def test_a_set_without_a_known_checksum_must_have_equal_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = rows(CIFAR100)
    known = small(CIFAR100)
    place = write(tmp_path, known, "binary", parts)
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path))
    assert read(known).count == 8
    content = bytearray((place / "a.bin").read_bytes())
    content[1] = 3  # a class
    (place / "a.bin").write_bytes(content)
    with pytest.raises(InputError, match="not the published ones"):
        read(known)


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1], "cut off|cannot be read"),
        (lambda content: content[: len(content) // 2], "cut off|cannot be read"),
        (lambda content: b"", "cut off|cannot be read"),
        (lambda content: content[:-2000] + bytes([content[-2000] ^ 1]) + content[-1999:], "not the published ones"),
        (lambda content: bytes(1000), "cut off|cannot be read"),
        (None, "is missing"),
    ],
)
def test_a_spoilt_file_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    spoil: Callable[[bytes], bytes] | None,
    message: str,
) -> None:
    parts = rows(CIFAR10)
    known = small(CIFAR10, records=digest(parts))
    path = write(tmp_path, known, version, parts) / known.files(version)[1]
    content = path.read_bytes()
    path.unlink()
    if spoil is not None:
        path.write_bytes(spoil(content))
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        read(known)
    assert "\n" not in str(caught.value)


class Hostile:
    """Asks for a command to be run when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace, path = tmp_path / "trace", tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Hostile(trace)}, protocol=protocol))
    with pytest.raises(InputError, match="expected arrays of bytes, lists, strings and integers"):
        frozen.read(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}q\x00(U\x01acbuiltins\neval\n(U\x011tRu.",
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02}(U\x01a](](]eeu.",  # lists in lists
        b"\x80\x02cnumpy\ndtype\n(U\x01OK\x00K\x01tR.",  # objects
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n.",
        b"\x80\x02}(U\x01aK\x01",
        b"\x80\x02}U\x01a\xffs.",
        b"\x80\x02K\x01.",
        b"\x80\x02e.",
        b"\x80\x02t.",
        b"\x80\x02N}b.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # eight exabytes
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02T\xff\xff\xff\xffabc.",
    ],
)
def test_what_is_no_plain_data_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        frozen.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes_come_through(tmp_path: Path, order: Any) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4, order=order)
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": array, "labels": [1, 300, -2], b"name": b"x"}, protocol=3))
    found = frozen.read(path)
    assert np.array_equal(found["data"], array)
    assert (found["labels"], found["name"]) == ([1, 300, -2], b"x")


def test_the_archive_is_fetched_checked_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = rows(CIFAR10)
    known = small(CIFAR10, records=digest(parts))
    source = write(tmp_path / "site", known, "binary", parts)
    archive = tmp_path / "site" / known.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
        evil = tarfile.TarInfo("../../escaped.txt")
        evil.size = 1
        tar.addfile(evil, io.BytesIO(b"x"))
    cache = tmp_path / "cache"
    monkeypatch.setenv("PHYSID_CACHE", str(cache))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(cifar, "SITE", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(MissingError, match="not kept"):
            read(known)
        assert not (cache / known.archive).exists()
        known = replace(known, archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
        assert read(known).count == 8
        server.shutdown()
    assert [path.name for path in cache.iterdir()] == [known.folders["binary"]]
    assert not (tmp_path / "escaped.txt").exists()
    archive.unlink()
    assert read(known).count == 8  # from the cache


def test_crops_and_flips_are_those_of_each_image() -> None:
    images = torch.randint(0, 256, (40, 8, 6, 3), dtype=torch.uint8)
    shift, flip = torch.randint(9, (40, 2)), torch.randint(2, (40,)) == 1
    expected = []
    for image, (row, column), mirror in zip(images.numpy(), shift.tolist(), flip.tolist(), strict=True):
        padded = np.pad(image[:, ::-1] if mirror else image, ((4, 4), (4, 4), (0, 0)))
        expected.append(padded[row : row + 8, column : column + 6])
    assert np.array_equal(shifted(images, shift, flip).numpy(), np.stack(expected))


def test_batches_are_a_function_of_epoch_seed_and_size() -> None:
    data = toyimages.load(images=50, test_images=10, classes=4, size=8, noise=0.1, augment="yes", data_seed=0)
    first, again = list(data.batches(3, 1, 16)), list(data.batches(3, 1, 16))
    assert [len(batch.labels) for batch in first] == [16, 16, 16, 2]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    for changed in (data.batches(4, 1, 16), data.batches(3, 2, 16)):
        assert not torch.equal(first[0].images, next(iter(changed)).images)
    whole = next(data.batches(3, 1, 50))
    assert torch.equal(whole.images, torch.cat([batch.images for batch in first]))
    assert whole.labels.bincount(minlength=4).tolist() == data.train.labels.bincount(minlength=4).tolist()
    assert first[0].images.is_contiguous(memory_format=torch.channels_last)


def test_test_images_are_normalised_and_in_order() -> None:
    data = toyimages.load(images=5, test_images=9, classes=3, size=8, noise=0.0, augment="yes", data_seed=1)
    found = torch.cat([batch.images for batch in data.test(4)])
    expected = (data.held_out.images.permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.25
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert torch.equal(torch.cat([batch.labels for batch in data.test(4)]), data.held_out.labels)


def test_images_and_classes_that_do_not_fit_are_refused() -> None:
    good = Subset(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"outside of 0\.\.0"):
        Images("x", good, good, ("a",))
    with pytest.raises(InputError, match="bytes"):
        Images("x", Subset(good.images.float(), good.labels), good, ("a", "b"))


@pytest.mark.data
def test_all_of_cifar10_loads_and_an_epoch_is_augmented_in_seconds(data_folder: Path) -> None:
    kinds = CIFAR10.folders.values()
    if not any((root / kind).is_dir() for root in (data_folder, data_folder / "cifar10") for kind in kinds):
        pytest.skip("no CIFAR-10 under PHYSID_DATA")
    began = time.process_time()
    data = read(CIFAR10, augment="yes")
    count = sum(len(batch.labels) for batch in data.batches(0, 0, 128))
    seconds = time.process_time() - began
    assert (data.count, data.test_count, count, len(data.classes)) == (50_000, 10_000, 50_000, 10)
    mean = data.train.images.double().mean((0, 1, 2)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), atol=1e-4)
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert seconds < 6  # 3 s on an idle machine
