"""Jitter, error against the true path, and lag, before and after smoothing, on a drawn film.

The film's noise and motion are known. A second film pans fast, to show whether tracking drifts: the error of the
tracked points stands beside that of looking anew in every frame.

``python -m slimalign.benchmarks.drawn_video --bundle BUNDLE --out FOLDER`` prints the figures and writes them there as
``drawn_video.json``, with the film itself (``film.mp4``), the tracked one and its stop as a GIF: raw points left,
smoothed ones right.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.mains import run_main
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.drawn.film import FilmFrame, FilmPlan, drawn_film
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.boxes import overlaps, whole_box
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.detector import open_detector
from slimalign.runtimes.drawing import contact_sheet, draw_landmarks, enlarged
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import replacing, write_text
from slimalign.runtimes.film_writer import film_writer
from slimalign.runtimes.metrics import jitter
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.smoothing import Smoothing
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import FIND_EVERY, FindBoxes, TrackedFace, Tracker, least_score_for, new_faces

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

PAN_S = 1.0
"""Seconds in which the second film pans from side to side and back: up to a sixth of the face from frame to frame."""
GIF_SIDE, GIF_ZOOM = 96, 2
"""The square of the film that is in the GIF, about an eye at rest, in pixels, and how many times as large."""
GIF_SECONDS = 1.2
"""How much of the film is in the GIF, before the stop and after it."""
GIF_STEP = 2
"""Every so manieth frame is in the GIF."""


@dataclass(frozen=True)
class Paths:
    """What became of a film of T frames: ``true``, ``raw`` and ``smoothed`` points (T, K, 2) in pixels.

    ``distances`` (T,) are the true faces' inter-ocular ones, ``still`` (T,) says in which frames the face rests,
    ``lag_s`` (T,) is what the filter tells of its lag, the mean over the points weighted by their speed.
    """

    true: Floats
    raw: Floats
    smoothed: Floats
    distances: Floats
    still: NDArray[np.bool_]
    lag_s: Floats
    fps: float


def main() -> None:
    """Print the figures and write them with the pictures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--detector", type=Path, help="finds the face first; else the whole picture is it")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--noise", type=float, default=FilmPlan.noise, help="grey levels of 255")
    chosen = options.parse_args()
    bundle = read_bundle(chosen.bundle)
    plan = FilmPlan(seed=chosen.seed, noise=chosen.noise)
    scheme = bundle.manifest.landmark_scheme
    frames = list(drawn_film(plan, scheme))
    with open_bundle(bundle, threads=1) as session:
        find = finder(chosen.detector)
        paths = follow(Aligner(session), frames, find, plan.fps, least_score_for(bundle.manifest))
        swift = replace(plan, pan_s=PAN_S)
        pan = panned(Aligner(session), list(drawn_film(swift, scheme)), find)
        runtime = session.runtime
    figures = {
        "bundle": bundle.manifest.name,
        "sha256": bundle.sha256,
        "runtime": runtime,
        "film": asdict(plan),
    }
    figures |= {"smoothing": asdict(Smoothing()), **measured(paths), "pan": {"pan_s": PAN_S, **pan}}
    text = json.dumps(figures, indent=1, allow_nan=False) + "\n"
    write_text(chosen.out / "drawn_video.json", text)
    write_film(chosen.out / "film.mp4", [frame.image for frame in frames], plan.fps)
    write_film(chosen.out / "drawn_video.mp4", side_by_side(frames, paths, scheme), plan.fps)
    stop, reach = round(plan.moving_s * plan.fps), round(GIF_SECONDS * plan.fps)
    eye = paths.true[-1, scheme.eye_corners[0]]
    shown = range(stop - reach, stop + reach, GIF_STEP)
    close = [
        contact_sheet(
            [closer(frames[n].image, p[n], eye, scheme) for p in (paths.raw, paths.smoothed)], columns=2
        )
        for n in shown
    ]
    write_gif(chosen.out / "drawn_video.gif", close, GIF_STEP / plan.fps)
    print(text, end="")  # noqa: T201


def finder(detector: Path | None) -> FindBoxes:
    """A detector's boxes, or the whole picture."""
    if detector is None:
        return lambda image: whole_box(image)[None]
    found = open_detector(detector)
    return lambda image: found.detect(image)[0]


def follow(
    aligner: Aligner, frames: Sequence[FilmFrame], find: FindBoxes, fps: float, least_score: float
) -> Paths:
    """Track the one face of the film; raises CheckError where it is not one face in every frame."""
    tracker = Tracker(aligner, find, StageClock(), least_score, FIND_EVERY, Smoothing())
    seen = []
    for number, frame in enumerate(frames):
        faces = tracker.follow(frame.image, frame.time_s)
        if len(faces) != 1 or faces[0].number != 0:
            raise CheckError(f"frame {number}: {len(faces)} faces found, there is one; try --detector")
        seen.append(faces[0])
    true = np.stack([frame.points for frame in frames])
    return Paths(
        true=true,
        raw=np.stack([face.seen.points for face in seen]),
        smoothed=np.stack([face.smoothed for face in seen]),
        distances=aligner.manifest.landmark_scheme.distances(true, "inter-ocular"),
        still=np.array([frame.still for frame in frames]),
        lag_s=np.array([_by_speed(face) for face in seen]),
        fps=fps,
    )


def _by_speed(face: TrackedFace) -> float:
    moving = float(face.speeds.sum())
    return float((face.lag_s * face.speeds).sum()) / moving if moving else float(face.lag_s.mean())


def panned(aligner: Aligner, frames: Sequence[FilmFrame], find: FindBoxes) -> dict[str, Any]:
    """Errors of the moving raw points, mean and worst frame, in pixels: tracked, and looked for anew in every frame.

    ``frames_without`` counts the frames of the movement in which nothing is found where the face is.
    """
    least = least_score_for(aligner.manifest)
    tracker = Tracker(aligner, find, StageClock(), least, FIND_EVERY)
    found: dict[str, list[float]] = {"tracked": [], "anew": []}
    moving = 0
    for frame in frames:
        tracked = [face.seen for face in tracker.follow(frame.image, frame.time_s)]
        if frame.still:
            continue
        moving += 1
        anew = new_faces(aligner, frame.image, find(frame.image), least)
        for name, faces in (("tracked", tracked), ("anew", anew)):
            there = overlaps(np.array([face.tight for face in faces]).reshape(-1, 4), tight_box(frame.points))
            if len(there) > 0 and there.max() > 0:
                nearest = faces[int(there.argmax())]
                found[name].append(float(np.linalg.norm(nearest.points - frame.points, axis=1).mean()))
    return {
        name: {
            "error_px": float(np.mean(errors)) if errors else None,
            "worst_px": max(errors, default=None),
            "frames_without": moving - len(errors),
        }
        for name, errors in found.items()
    }


def measured(paths: Paths) -> dict[str, Any]:
    """The figures, in pixels and in percent of the inter-ocular distance.

    ``error`` is the points' mean distance from the true path. A network keeps some of them at a constant distance from
    where they are drawn; ``error_without_offset`` is that of the points less each one's mean offset at rest.
    ``lag_ms`` is what the filter tells, ``lag_found_ms`` by how much the moving smoothed points trail the raw ones.
    """
    size = float(paths.distances[paths.still].mean())
    parts = {"still": paths.still, "moving": ~paths.still}
    found: dict[str, Any] = {"inter_ocular_px": size}
    for name, points in (("raw", paths.raw), ("smoothed", paths.smoothed)):
        restless = jitter(points[paths.still])
        offset = (points - paths.true)[paths.still].mean(axis=0)
        found[name] = {
            "jitter_px": restless,
            "jitter_percent": 100 * restless / size,
            **{part: _errors(paths, points, offset, frames) for part, frames in parts.items()},
        }
    found["lag_ms"] = {part: 1000 * float(paths.lag_s[frames].mean()) for part, frames in parts.items()}
    found["lag_found_ms"] = {"moving": 1000 * trailing_s(paths)}
    return found


def _errors(paths: Paths, points: Floats, offset: Floats, frames: NDArray[np.bool_]) -> dict[str, float]:
    found = {}
    for name, moved in (("error", points), ("error_without_offset", points - offset)):
        distances = np.linalg.norm(moved - paths.true, axis=2).mean(axis=1)[frames]
        found[f"{name}_px"] = float(distances.mean())
        found[f"{name}_percent"] = float(100 * (distances / paths.distances[frames]).mean())
    return found


def trailing_s(paths: Paths) -> float:
    """The time by which the smoothed points, while they move, best fit the raw ones when these are held back."""
    velocities = np.gradient(paths.true, axis=0)[~paths.still] * paths.fps
    behind = (paths.raw - paths.smoothed)[~paths.still]
    return float((behind * velocities).sum() / (velocities * velocities).sum())


def side_by_side(frames: Sequence[FilmFrame], paths: Paths, scheme: LandmarkScheme) -> list[Image]:
    """Each frame twice: with the raw and with the smoothed points."""
    return [
        contact_sheet([draw_landmarks(frame.image, points, scheme) for points in pair], columns=2)
        for frame, *pair in zip(frames, paths.raw, paths.smoothed, strict=True)
    ]


def write_film(path: Path, pictures: Sequence[Image], fps: float) -> None:
    """The pictures (H, W, 3) uint8 RGB as a video."""
    with film_writer(path, fps) as film:
        for number, picture in enumerate(pictures):
            film.write(picture, number / fps)


def closer(image: Image, points: Floats, centre: Floats, scheme: LandmarkScheme) -> Image:
    """The square about ``centre`` enlarged, with the points that lie in it."""
    x, y = np.rint(centre).astype(int) - GIF_SIDE // 2
    part, inside = enlarged(image[y : y + GIF_SIDE, x : x + GIF_SIDE], points - (x, y), GIF_SIDE * GIF_ZOOM)
    return draw_landmarks(part, inside, scheme)


def write_gif(path: Path, pictures: Sequence[Image], pause_s: float) -> None:
    """The pictures (H, W, 3) uint8 RGB, over and over. Raises UserError where OpenCV is older than 4.11."""
    if not hasattr(cv2, "imwriteanimation"):
        raise UserError(
            f"{path}: OpenCV {cv2.__version__} writes no GIF; update opencv-python-headless to 4.11"
        )
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(one, cv2.COLOR_RGB2BGR) for one in pictures]
    animation.durations = [round(1000 * pause_s)] * len(pictures)
    with replacing(path) as beside:
        # 3 leaves the colours undithered: noise on noise would only make the file large.
        cv2.imwriteanimation(str(beside), animation, [cv2.IMWRITE_GIF_DITHER, 3])


if __name__ == "__main__":
    run_main(main)
