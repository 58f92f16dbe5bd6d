"""The command that finds landmarks: predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from slimalign.commands.options import JsonOption
from slimalign.runtimes.errors import UserError
from slimalign.showing import print_json, remark, say


def predict(
    bundle: Annotated[Path, typer.Option(help="Folder or zip of a bundle.")],
    image: Annotated[Optional[Path], typer.Argument(help="A photo.")] = None,
    box: Annotated[Optional[list[str]], typer.Option(help="x0,y0,x1,y1 of a face; may be repeated.")] = None,
    boxes: Annotated[
        Optional[Path], typer.Option(help='JSON {"path": [[x0, y0, x1, y1], ...]} for many images.')
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Write the photo with the landmarks drawn here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Landmarks of the faces in a photo, in its pixels; without --box the whole image is taken as one face.

    Example: `slimalign predict photo.jpg --bundle slimalign-demo/bundles/distilled-onnx --box 80,60,280,260 --json`
    """
    if boxes is not None:
        if image is not None or box or out is not None:
            raise UserError("--boxes FILE.json names photos and boxes: leave out the photo, --box and --out")
        _predict_many(bundle, boxes)
        return
    if image is None:
        raise UserError("give a photo, or --boxes FILE.json for many")
    from slimalign import api
    from slimalign.predicting import parse_box

    corners = [parse_box(text) for text in box or ()]
    found = api.predict(bundle, image, corners, out)
    if not corners:
        remark(f"{image}: no --box given, the whole image is taken as one face")
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


def _predict_many(bundle: Path, boxes: Path) -> None:
    from slimalign.predicting import predict_boxes_file
    from slimalign.runtimes.bundle import read_bundle

    for document in predict_boxes_file(read_bundle(bundle), boxes):
        print_json(document, indent=None)
