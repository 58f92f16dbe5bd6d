"""Files are replaced whole: after a fault, a full disk, a kill, and with several writers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slimalign.compress.checkpoint import read_tensors, write_tensors
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_appendable, check_replaceable, replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folder_are_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    for text in ("first, and longer", "zweite, ß"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "beside"), [("a.png", "a.part.png"), ("a.b.svg", "a.b.part.svg"), ("a", "a.part")]
)
def test_the_path_beside_has_the_ending_and_the_old_file_stands_until_the_end(
    tmp_path: Path, name: str, beside: str
) -> None:
    (tmp_path / name).write_text("old")
    with replacing(tmp_path / name) as part:
        assert part == tmp_path / beside
        part.write_text("new")
        assert (tmp_path / name).read_text() == "old"
    assert (tmp_path / name).read_text() == "new"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("fault", [KeyError("x"), KeyboardInterrupt(), UserError("an image is broken")])
def test_a_fault_that_is_not_the_disks_passes_and_leaves_nothing(
    tmp_path: Path, fault: BaseException
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with replacing(tmp_path / "a.txt") as beside:
            beside.write_text("half")
            raise fault

    with pytest.raises(type(fault)) as caught:
        fail()
    assert caught.value is fault
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder" / "within").mkdir(parents=True)
    expected = {
        tmp_path / "file" / "a.txt": "File exists",
        tmp_path / "file" / "deep" / "a.txt": "Not a directory",
        tmp_path / "folder": "Is a directory",
    }
    for path, reason in expected.items():
        with pytest.raises(UserError) as caught:
            write_text(path, "text")
        message = f"{path}: cannot be written ({reason}); free some space or mend its rights"
        assert str(caught.value) == message
    assert names(tmp_path) == ["file", "folder"]


def test_the_folder_of_a_checkpoint_is_made_or_refused_in_one_line(tmp_path: Path) -> None:
    write_tensors(tmp_path / "new" / "a.safetensors", {"w": torch.arange(3)}, {"epoch": "1"})
    tensors, metadata = read_tensors(tmp_path / "new" / "a.safetensors")
    assert (tensors["w"].tolist(), metadata) == ([0, 1, 2], {"epoch": "1"})
    below = tmp_path / "new" / "a.safetensors" / "b.safetensors"
    with pytest.raises(UserError, match=r"b\.safetensors: cannot be written \(File exists\)"):
        write_tensors(below, {"w": torch.zeros(3)}, {})
    assert names(tmp_path / "new") == ["a.safetensors"]


def test_a_checkpoint_is_written_beside_and_nowhere_else(tmp_path: Path) -> None:
    """safetensors' own writer makes a hidden file, which a kill leaves behind; its rights give it away."""
    (tmp_path / "plain").write_bytes(b"")
    write_tensors(tmp_path / "a.safetensors", {"w": torch.zeros(3)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


FULL = """
import resource, sys
from pathlib import Path
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "x" * 2000)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(("old", "kept"), [(True, "; the old file is kept"), (False, "")])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_half_a_new_one(
    tmp_path: Path, old: bool, kept: str
) -> None:
    """A quota on file size stands for the disk."""
    path = tmp_path / "a.txt"
    if old:
        write_text(path, "old")
    with started(FULL, path) as process:
        output, _ = process.communicate(timeout=60)
    message = f"{path}: cannot be written (File too large); free some space or mend its rights{kept}\n"
    assert output == message
    assert names(tmp_path) == (["a.txt"] if old else [])


WAITING = """
import sys
from pathlib import Path
from slimalign.runtimes.files import replacing

with replacing(Path(sys.argv[1])) as beside:
    beside.write_text(sys.argv[2])
    print("written beside", flush=True)
    sys.stdin.readline()
"""


def test_kills_leave_one_file_that_the_next_writer_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    for _ in range(3):
        with started(WAITING, path, "a long text of a killed writer") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "written beside\n"
            process.kill()
        assert names(tmp_path) == ["a.part.txt", "a.txt"]
        assert path.read_text() == "old"
    write_text(path, "new")
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "new"


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with started(WAITING, path, "first") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "written beside\n"
        with started(WAITING, path, "second") as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=2)
            assert (tmp_path / "a.part.txt").read_text() == "first"
            first.communicate("\n", timeout=60)
            assert second.communicate("\n", timeout=60)[0] == "written beside\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert path.read_text() == "second"
    assert names(tmp_path) == ["a.txt"]


OFTEN = """
import sys
from pathlib import Path
from slimalign.runtimes.files import write_text

sys.stdin.readline()
for _ in range(200):
    write_text(Path(sys.argv[1]), sys.argv[2] * 1000)
"""


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writers = [started(OFTEN, path, letter) for letter in "abcd"]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    assert path.read_text() in {letter * 1000 for letter in "abcd"}
    assert names(tmp_path) == ["a.txt"]


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_appendable, check_replaceable

if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
for path in map(Path, sys.argv[1:]):
    for check in (check_replaceable, check_appendable):
        try:
            check(path)
        except UserError as error:
            print(path.parent.name, path.name, check.__name__, "Permission denied" in str(error))
"""


def test_the_place_is_looked_at_by_what_is_done_there(tmp_path: Path) -> None:
    """Replacing takes a folder that may be written to, appending the file alone."""
    for folder, file, mode in (("closed", "open", 0o666), ("open", "closed", 0o444)):
        path = tmp_path / folder / file
        write_text(path, "")
        path.chmod(mode)
        path.parent.chmod(0o555 if folder == "closed" else 0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    paths = [str(tmp_path / name) for name in ("closed/open", "closed/new", "open/closed", "open/new")]
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, *paths], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "closed open check_replaceable True",
        "closed new check_replaceable True",
        "closed new check_appendable True",
        "open closed check_appendable True",
    ]
    for check in (check_replaceable, check_appendable):
        with pytest.raises(UserError, match="cannot be written .Is a directory."):
            check(tmp_path)
