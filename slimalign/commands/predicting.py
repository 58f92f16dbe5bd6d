"""The command that finds landmarks: predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from slimalign.commands.options import CudaGraphOption, DelegateOption, ProviderOption
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.showing import print_json, remark, say, shown_progress

if TYPE_CHECKING:
    from slimalign.face_finding import FacePlaces
    from slimalign.passes import Pass

WHOLE_IMAGE = "no --box given, the whole image is taken as one face"


def predict(
    bundle: Annotated[Path, typer.Option(help="Folder or zip of a bundle, or a model's TOML.")],
    source: Annotated[
        Optional[str],
        typer.Argument(
            help="A photo, a folder of photos, a video, camera:0, camera:csi (a Jetson's) or gstreamer:PIPELINE."
        ),
    ] = None,
    box: Annotated[Optional[list[str]], typer.Option(help="x0,y0,x1,y1 of a face; may be repeated.")] = None,
    boxes: Annotated[
        Optional[Path], typer.Option(help='JSON {"path": [[x0, y0, x1, y1], ...]} for many images.')
    ] = None,
    detector: Annotated[
        Optional[Path],
        typer.Option(help="Model file that finds the faces: BlazeFace short range (.tflite), YuNet (.onnx)."),
    ] = None,
    least_score: Annotated[
        Optional[float],
        typer.Option(help="Mean score of the points below which a find is no face, or a face is lost."),
    ] = None,
    find_every: Annotated[
        Optional[int],
        typer.Option(help="In videos: frames after which --detector looks again; 30 if not given."),
    ] = None,
    smoothing: Annotated[
        Optional[bool],
        typer.Option(
            "--smoothing/--no-smoothing", help="In videos: One-Euro smoothing; done if not refused."
        ),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Write the photo or the video drawn here, or a folder's photos.")
    ] = None,
    points: Annotated[
        Optional[Path], typer.Option(help="Write the landmarks here as they come: .csv or .jsonl.")
    ] = None,
    provider: ProviderOption = DEFAULT_BACKEND.provider,
    delegate: DelegateOption = DEFAULT_BACKEND.delegate,
    cuda_graph: CudaGraphOption = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON and nothing else; of many images a document a line."),
    ] = False,
) -> None:
    """Landmarks of faces, in pixels of the image, the centre of the first pixel at 0,0.

    Without --box and --detector the whole image is taken as one face; in a video that is the first frame, and the face
    is looked for where its landmarks were last. There the points are smoothed, and --json and --points hold them so.

    Many images with --json: {"image" or "frame" and "time_s", "faces"} each, and at the end {"figures"}. CSV has a row
    a face: image, frame, time_s (seconds), face (its number), box_x0 ... box_y1, then x0, y0, score0, x1 ...

    Example: `slimalign predict photo.jpg --bundle slimalign-demo/bundles/distilled-onnx --box 80,60,280,260 --json`

    A video: `slimalign predict film.mp4 --bundle BUNDLE --detector face_detection_short_range.tflite --out drawn.mp4`
    """
    backend = Backend(provider, delegate, cuda_graph)
    for_videos = [
        name
        for name, value in (("--find-every", find_every), ("--smoothing/--no-smoothing", smoothing))
        if value is not None
    ]
    if boxes is not None:
        if source is not None or box or detector is not None or out is not None or points is not None:
            raise UserError(
                "--boxes FILE.json names photos and boxes: leave out the photo, --box, --detector, --points and --out"
            )
        if least_score is not None or for_videos:
            raise UserError(
                "--boxes FILE.json: there is a face in every box; leave out --least-score and options of videos"
            )
        _predict_boxes(bundle, boxes, backend)
        return
    if source is None:
        raise UserError("give a photo, or --boxes FILE.json for many, or a folder, a video, camera:0")
    from slimalign.face_finding import FacePlaces
    from slimalign.predicting import is_photo, parse_box
    from slimalign.runtimes.frames import is_film

    if for_videos and not is_film(source):
        raise UserError(f"{source}: {for_videos[0]} is for videos and cameras; leave it out")
    places = FacePlaces([parse_box(text) for text in box or ()], detector, least_score)
    if is_photo(source):
        _predict_photo(bundle, Path(source), places, out, points, backend, as_json)
        return
    from slimalign.passes import Pass
    from slimalign.runtimes.smoothing import Smoothing
    from slimalign.runtimes.tracker import FIND_EVERY

    smoothed = None if smoothing is False else Smoothing()
    how = Pass(places, out, points, smoothed, FIND_EVERY if find_every is None else find_every, backend)
    _predict_many(bundle, source, how, as_json)


def _predict_photo(
    bundle: Path,
    photo: Path,
    places: FacePlaces,
    out: Path | None,
    points: Path | None,
    backend: Backend,
    as_json: bool,
) -> None:
    from slimalign.foreign import bundle_at
    from slimalign.predicting import predict_photo
    from slimalign.records import PointsFile, check_points_path

    if points is not None:
        check_points_path(points)
    opened = bundle_at(bundle)
    found = predict_photo(opened, photo, places, out, backend)
    if places.whole_image:
        remark(f"{photo}: {WHOLE_IMAGE}")
    threshold = opened.manifest.score_threshold
    for number, face in enumerate(found):
        score = sum(face["scores"]) / len(face["scores"])
        if threshold is not None and places.least_score is None and score < threshold:
            remark(
                f"{photo}: face {number} scores {score:.3f}, below the bundle's {threshold:.3f}: it may be none"
            )
    if points is not None:
        with PointsFile(points, len(found[0]["points"])) as file:
            file.add({"image": str(photo), "faces": found})
    if as_json:
        print_json({"faces": found})
        return
    for face in found:
        scores = face["scores"]
        place = ",".join(f"{value:g}" for value in face["box"])
        say(f"face in {place}: {len(scores)} points, mean score {sum(scores) / len(scores):.3f}")
    if out is None:
        say("--json prints the points, --out FILE draws them")
    else:
        say(f"The picture is {out}; --json prints the points")


def _predict_many(bundle: Path, source: str, how: Pass, as_json: bool) -> None:
    from slimalign.foreign import bundle_at
    from slimalign.passes import Figures
    from slimalign.predicting import predict_many

    figures = Figures()
    try:
        with shown_progress() as progress:

            def told(document: dict[str, Any]) -> None:
                # Only now: a source that cannot be opened is told in one line.
                if how.places.whole_image and figures.images == 1:
                    progress.console.print(f"{source}: {WHOLE_IMAGE}", markup=False, highlight=False)
                if as_json:
                    print_json(document, indent=None)

            predict_many(bundle_at(bundle), source, how, told, figures, progress)
    finally:
        # However it ended: what was done until then is kept.
        if figures.images > 0:
            _show_figures(figures.to_dict(), how, as_json)


def _show_figures(figures: dict[str, Any], how: Pass, as_json: bool) -> None:
    from slimalign.passes import figures_lines

    if as_json:
        print_json({"figures": figures}, indent=None)
        return
    for line in figures_lines(figures):
        say(line)
    if how.out is None and how.points is None:
        say("--points FILE keeps the points, --out draws them, --json prints them")
    for what, path in (("drawn", how.out), ("points", how.points)):
        # What broke off at once has written nothing.
        if path is not None and path.exists():
            say(f"{what}: {path}")


def _predict_boxes(bundle: Path, boxes: Path, backend: Backend) -> None:
    from slimalign.foreign import bundle_at
    from slimalign.predicting import predict_boxes_file

    for document in predict_boxes_file(bundle_at(bundle), boxes, backend):
        print_json(document, indent=None)
