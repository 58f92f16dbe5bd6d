"""predict over videos and folders: what it writes, and how it ends when something breaks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line.place import ROOT, Command, Place

from slimalign import api
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.drawn.film import FilmPlan, drawn_film
from slimalign.face_finding import USUAL_LEAST_SCORE, FacePlaces, least_score_of
from slimalign.passes import Pass
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.film_writer import film_writer
from slimalign.runtimes.frames import open_film
from slimalign.runtimes.schemes import AFLW

FRAMES = 15
ANY = ("--least-score", "0")
"""The place's network is not trained: whatever it sees is a face."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "drawn.avi"
    plan = FilmPlan(size=128, fps=10.0, moving_s=1.0, still_s=0.5)
    with film_writer(path, plan.fps) as writer:
        for frame in drawn_film(plan, AFLW):
            writer.write(frame.image, frame.time_s)
    return path


def cut(film: Path, folder: Path) -> Path:
    path = folder / "cut.avi"
    data = film.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    return path


def frames_in(path: str | Path) -> int:
    with open_film(str(path)) as film:
        return len(list(film))


def test_a_video_is_followed_drawn_and_written_as_it_comes(
    slimalign: Command, place: Place, film: Path
) -> None:
    command = ("predict", film, "--bundle", place.onnx, *ANY, "--out", "drawn.mp4", "--points", "points.csv")
    done = slimalign(*command, "--json")
    assert done.status == 0
    *documents, last = [json.loads(line) for line in done.out.splitlines()]
    assert [document["frame"] for document in documents] == list(range(FRAMES))
    assert [document["time_s"] for document in documents] == pytest.approx([n / 10 for n in range(FRAMES)])
    assert all(set(face) == {"face", "box", "points", "scores"} for d in documents for face in d["faces"])
    figures = last["figures"]
    assert (figures["images"], figures["faces"], figures["without_face"]) == (FRAMES, FRAMES, 0)
    stages = {"read", "detect", "crop", "network", "decode", "smooth", "draw", "write"}
    assert set(figures["stages_ms"]) == stages
    assert figures["images_per_second"] == pytest.approx(FRAMES / figures["seconds"])
    header, *rows = csv.reader(Path("points.csv").read_text().splitlines())
    assert header[:11] == [
        *("image", "frame", "time_s", "face", "box_x0", "box_y0", "box_x1", "box_y1", "x0", "y0", "score0")
    ]
    assert [len(row) for row in rows] == [8 + 3 * 19] * FRAMES
    for row, document in zip(rows, documents, strict=True):
        (face,) = document["faces"]
        values = np.array(row[8:], dtype=float).reshape(-1, 3)
        np.testing.assert_array_equal(values, np.column_stack([face["points"], face["scores"]]))
        assert row[:4] == ["", str(document["frame"]), str(document["time_s"]), str(face["face"])]
    assert frames_in("drawn.mp4") == FRAMES
    assert done.err.startswith(f"{film}: no --box given, the whole image is taken as one face\n")


def test_a_video_ends_with_frames_a_second_and_where_the_time_went(
    slimalign: Command, place: Place, film: Path
) -> None:
    done = slimalign(
        "predict", film, "--bundle", place.onnx, *ANY, "--box", "20,20,110,110", "--out", "a.avi"
    )
    counts, stages, lag, drawn = done.out.splitlines()
    assert (done.status, done.err) == (0, "")
    assert counts.startswith("15 images, 15 faces, 0 images without a face, in ")
    assert counts.endswith(" a second")
    words = stages.removeprefix("milliseconds an image: ").split(", ")
    names = ["read", "detect", "crop", "network", "decode", "smooth", "draw", "write"]
    assert sorted(word.split()[0] for word in words) == sorted(names)
    assert lag.startswith("the smoothed points come ")
    assert drawn == "drawn: a.avi"
    raw = slimalign(
        "predict", film, "--bundle", place.onnx, *ANY, "--no-smoothing", "--json"
    ).out.splitlines()
    assert json.loads(raw[-1])["figures"]["lag_ms"] is None


def test_a_broken_video_keeps_what_was_done_and_ends_with_one_line(
    slimalign: Command, place: Place, film: Path, tmp_path: Path
) -> None:
    broken = cut(film, tmp_path)
    command = ("predict", broken, "--bundle", place.onnx, *ANY, "--box", "20,20,110,110")
    done = slimalign(*command, "--out", "drawn.avi", "--points", "points.jsonl")
    kept = [json.loads(line) for line in Path("points.jsonl").read_text().splitlines()]
    assert done.status == 2
    assert (
        done.err == f"slimalign: {broken}: breaks off after {len(kept)} of {FRAMES} frames; copy it again\n"
    )
    assert 5 <= len(kept) < FRAMES
    assert frames_in("drawn.avi") == len(kept)
    assert done.out.startswith(f"{len(kept)} images, ")


def test_ctrl_c_keeps_the_files(place: Place, film: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.avi"
    with open_film(str(film)) as source:
        pictures = [frame.image for frame in source]
    with film_writer(long, 25.0) as writer:
        for number in range(3000):
            writer.write(pictures[number % FRAMES], number / 25)
    # Tests that run in the background have the signal ignored, and hand that on.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    started = [sys.executable, "-c", f"{heard}; from slimalign.cli import main; main()"]
    command = [*started, "predict", str(long), "--bundle", str(place.onnx), *ANY]
    points, drawn = tmp_path / "points.jsonl", tmp_path / "drawn.avi"
    options = ["--out", str(drawn), "--points", str(points)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, cwd=ROOT) as running:
        while not (points.exists() and points.stat().st_size) and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    kept = points.read_text().splitlines()
    assert running.returncode == 130, told
    assert 0 < len(kept) < 3000
    assert frames_in(drawn) >= len(kept)
    assert "Traceback" not in told


def test_a_folder_is_gone_through_by_name_and_its_bad_photos_are_told(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, number in (("b.png", 1), ("a.png", 0), ("d.png", 2)):
        shutil.copy(place.data / f"{number}.png", photos / name)
    (photos / "c.png").write_text("no photo")
    (photos / "e.jpg").write_text("none either")
    (photos / "notes.txt").write_text("passed over")
    command = ("predict", photos, "--bundle", place.onnx, "--out", "drawn", "--points", "points.csv")
    done = slimalign(*command, "--json")
    assert done.status == 2
    *documents, last = [json.loads(line) for line in done.out.splitlines()]
    good = [str(photos / name) for name in ("a.png", "b.png", "d.png")]
    assert [document["image"] for document in documents] == good
    assert documents[0]["faces"] == api.predict(place.onnx, photos / "a.png")
    assert last["figures"]["images"] == 3
    assert [row[0] for row in csv.reader(Path("points.csv").read_text().splitlines())][1:] == good
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["a.png", "b.png", "d.png"]
    said, fault = done.err.splitlines()
    assert said == f"{photos}: no --box given, the whole image is taken as one face"
    assert fault.startswith(f"slimalign: {photos / 'c.png'}: not an image that can be decoded")
    assert fault.endswith(f"; and 1 more: {photos / 'e.jpg'}")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_name_that_is_not_text_is_told_and_the_others_go_on(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    odd = os.fsencode(photos) + b"/caf\xe9.png"
    for name in (os.fsencode(photos) + b"/a.png", odd):
        shutil.copy(place.data / "0.png", name)
    done = slimalign("predict", photos, "--bundle", place.onnx, "--out", "drawn", "--points", "points.csv")
    assert done.status == 2
    told = f"slimalign: {photos}/caf\\udce9.png: the file's name is not UTF-8; rename it"
    assert done.err.splitlines()[-1] == told
    assert os.listdir("drawn") == ["a.png"]
    (tmp_path / "film").mkdir()
    for argument in ("predict", "--out"):
        odd_name = os.fsdecode(odd)
        source = [odd_name] if argument == "predict" else [photos / "a.png", "--out", odd_name]
        alone = slimalign("predict", *source, "--bundle", place.onnx)
        assert (alone.status, alone.err.splitlines()[-1]) == (2, told)


def test_a_drawing_that_cannot_be_written_does_not_end_the_folder(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    photos, drawn = tmp_path / "photos", tmp_path / "drawn"
    photos.mkdir()
    (drawn / "b.png").mkdir(parents=True)  # in the way of the drawing
    image = cv2.imread(str(place.data / "0.png"))
    for name in ("a.pgm", "b.png", "c.png"):
        cv2.imwrite(str(photos / name), image if name != "a.pgm" else image[..., 0])
    done = slimalign("predict", photos, "--bundle", place.onnx, "--out", drawn, "--points", "points.csv")
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith(f"slimalign: {drawn / 'b.png'}: cannot be written")
    assert sorted(os.listdir(drawn)) == ["a.pgm.png", "b.png", "c.png"]
    assert cv2.imread(str(drawn / "a.pgm.png")).std(axis=2).max() > 0
    assert len(Path("points.csv").read_text().splitlines()) == 1 + 3


def test_an_old_points_file_stays_where_nothing_comes(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    Path("points.csv").write_text("old")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no photo")
    done = slimalign("predict", tmp_path / "photos", "--bundle", place.onnx, "--points", "points.csv")
    assert (done.status, Path("points.csv").read_text()) == (2, "old")


def test_a_least_score_holds_for_given_boxes_and_a_low_score_is_remarked(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    photo = place.data / "0.png"
    command = ("predict", photo, "--box", "10,10,60,60", "--bundle")
    refused = slimalign(*command, place.onnx, "--least-score", "2")
    assert refused.status == 2
    assert refused.err.startswith(f"slimalign: {photo}: no face found; no box reaches --least-score")
    sure = shutil.copytree(place.onnx, tmp_path / "sure")
    entries = json.loads((sure / "bundle.json").read_text())
    (sure / "bundle.json").write_text(json.dumps({**entries, "score_threshold": 2.0}))
    done = slimalign(*command, sure, "--json")
    assert (done.status, len(done.json["faces"])) == (0, 1)
    assert done.err.startswith(f"{photo}: face 0 scores 0.")
    assert done.err.endswith("below the bundle's 2.000: it may be none\n")


def test_boxes_may_be_an_array(place: Place) -> None:
    box = np.array([[10.0, 10, 60, 60]])
    photo = place.data / "0.png"
    assert api.predict(place.onnx, photo, box) == api.predict(place.onnx, photo, box.tolist())


def test_images_without_a_face_end_with_one_line(slimalign: Command, place: Place, film: Path) -> None:
    done = slimalign("predict", film, "--bundle", place.onnx, "--least-score", "2", "--box", "20,20,110,110")
    assert done.status == 2
    assert done.err == f"slimalign: {film}: no face found in 15 images; see to --box and --least-score\n"


MISTAKES = [
    ("predict {film} --bundle {onnx} --out {film}", "is the video itself; give another name"),
    ("predict {film} --bundle {onnx} --out a.png", "a.png: its ending names no video that can be written"),
    ("predict {film} --bundle {onnx} --points a.txt", "a.txt: points are written as CSV or as JSON lines"),
    ("predict {film} --bundle {onnx} --box 900,0,990,90", "box 900,0,990,90: outside the image of 128x128"),
    ("predict {film} --bundle {onnx} --find-every -1", "--find-every -1: give a number of frames"),
    ("predict {film} --bundle {onnx} --least-score nan", "--least-score nan: give a number"),
    ("predict {film} --bundle {onnx} --detector face.bin", "face.bin: not a face detector known here"),
    (
        "predict {film} --bundle {onnx} --box 1,2,3,4 --detector a.onnx",
        "--box and --detector a.onnx: give one",
    ),
    ("predict {data} --bundle {onnx} --find-every 3", "--find-every is for videos and cameras; leave it out"),
    ("predict {data} --bundle {onnx} --no-smoothing", "--smoothing/--no-smoothing is for videos and cameras"),
    ("predict --bundle {onnx} --boxes a.json --least-score 1", "there is a face in every box; leave out"),
    ("predict {film} --bundle {onnx} --box 0,0,99999,99999", "more than 100 times as large as the image"),
    ("predict {data} --bundle {onnx} --out {data}", "is the folder of the photos itself"),
    ("predict . --bundle {onnx}", ".: holds no photos"),
    ("predict nowhere.mp4 --bundle {onnx}", "nowhere.mp4: no such file; give a photo, a folder, a video"),
    ("predict camera:987 --bundle {onnx}", "camera:987: cannot be opened; is it plugged in"),
]


@pytest.mark.parametrize(("line", "fault"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_mistakes_with_many_images_end_with_one_line(
    slimalign: Command, place: Place, film: Path, line: str, fault: str
) -> None:
    names = {"{film}": film, "{onnx}": place.onnx, "{data}": place.data}
    done = slimalign(*(names.get(word, word) for word in line.split()))
    assert (done.status, done.out) == (2, "")
    (told,) = done.err.splitlines()
    assert told.startswith("slimalign: ")
    assert fault in told
    assert os.listdir() == []


def test_a_photos_points_are_written_too(slimalign: Command, place: Place) -> None:
    photo = place.data / "0.png"
    done = slimalign("predict", photo, "--bundle", place.onnx, "--points", "points.csv", "--json")
    _, row = csv.reader(Path("points.csv").read_text().splitlines())
    assert [float(value) for value in row[8:10]] == done.json["faces"][0]["points"][0]


def test_a_detectors_face_in_a_photo_is_looked_at_twice_and_none_is_told(
    place: Place, tmp_path: Path
) -> None:
    from test_detector import bright_yunet

    detector = bright_yunet(tmp_path / "bright.onnx")
    photo = tmp_path / "photo.png"
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    cv2.imwrite(str(photo), image)
    with pytest.raises(UserError, match=r"photo.png: no face found; give its --box, or another --detector"):
        api.predict(place.onnx, photo, detector=detector)
    image[64:72, 64:72] = 255
    cv2.imwrite(str(photo), image)
    (found,) = api.predict(place.onnx, photo, detector=detector, least_score=0.0)
    first = api.predict(place.onnx, photo, [[68 - 16.5, 68 - 24.5, 68 + 15.5, 68 + 23.5]])[0]
    points = np.array(first["points"])
    np.testing.assert_allclose(found["box"], [*points.min(axis=0), *points.max(axis=0)])
    with pytest.raises(UserError, match="no face found"):
        api.predict(place.onnx, photo, detector=detector, least_score=1.5)


def test_the_verb_follow_is_that_of_the_command_line(slimalign: Command, place: Place, film: Path) -> None:
    documents: list[dict[str, object]] = []
    how = Pass(FacePlaces(least_score=0.0))
    figures = api.follow(place.onnx, film, documents.append, how)
    out = slimalign("predict", film, "--bundle", place.onnx, *ANY, "--json").out
    assert documents == [json.loads(line) for line in out.splitlines()[:-1]]
    assert (figures.images, figures.faces) == (FRAMES, FRAMES)


def test_peaks_of_heatmaps_are_not_judged_by_the_bar_for_probabilities(place: Place, tmp_path: Path) -> None:
    peaks = shutil.copytree(place.onnx, tmp_path / "peaks")
    manifest = peaks / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"local-softmax"', '"local-mean"'))
    found = []
    for folder in (place.onnx, peaks):
        with open_bundle(api.read_bundle(folder), threads=1) as session:
            aligner = Aligner(session)
            asked = [FacePlaces(), FacePlaces(least_score=0.25)]
            found.append([least_score_of(aligner, places) for places in asked])
    assert found == [[USUAL_LEAST_SCORE, 0.25], [-np.inf, 0.25]]
