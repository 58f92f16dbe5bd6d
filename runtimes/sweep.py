"""Timing many settings in turns, so that a drifting machine is fair to all. Python 3.6 syntax, see session.py."""

from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from itertools import cycle
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.session import Float32, Session
from slimalign.runtimes.timing_loop import Span, time_calls, time_once_ms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Image = NDArray[np.uint8]

KERNEL, END_TO_END = TIMED = ("kernel", "end-to-end")
"""What a call that is timed does: the network's inference alone, or all from images to landmarks."""
FACES = 32
"""Faces that take turns as input, at most: real input varies, and memory is bounded."""


class Setting(NamedTuple):
    """What is measured: which of the bundles, on how many threads (None: all cores), at which batch size.

    ``timed`` is one of TIMED.
    """

    bundle: int
    threads: Optional[int]
    batch: int
    timed: str = KERNEL


class Plan(NamedTuple):
    """How long, see slimalign.runtimes.timing.Protocol."""

    warm_up: Span
    settle: Span
    length: Span
    rounds: int


class Ready(NamedTuple):
    """All libraries are loaded and all engines built: now measuring begins."""


class Opened(NamedTuple):
    """A setting's session was opened: ``place`` is that of the setting; ``started`` is ISO 8601 in UTC."""

    place: int
    started: str
    runtime: str
    version: str
    threads: int
    init_ms: float
    first_ms: float


class Visit(NamedTuple):
    """A setting's share of one round: durations of single calls in the order they were made."""

    place: int
    turn: int
    samples_ms: List[float]


class Subjects(NamedTuple):
    """What is measured, and how to get at it.

    ``open`` opens a setting's session; ``crops`` gives its faces, (N, S, S, 3) uint8 RGB, N >= 1, the same array for
    the same faces. ``end_to_end`` gives the calls that take turns in a setting of that kind, see
    slimalign.runtimes.end_to_end.
    """

    settings: Sequence[Setting]
    open: "Callable[[Setting], Session]"
    crops: "Callable[[Setting], Image]"
    end_to_end: "Callable[[Session, Setting], Sequence[Callable[[], Floats]]]"


def sweep(
    subjects: Subjects, plan: Plan, done: Collection[Tuple[int, int]] = ()
) -> Iterator[Union[Ready, Opened, Visit]]:
    """Open every setting, then visit all of them once a round; each event comes as soon as it has happened.

    ``done`` are the visits (place, turn) of an earlier sweep that was broken off; what is left of it is done. Every
    setting has a session of its own, so that its ``init_ms`` and ``first_ms`` belong to it. Raises UserError for output
    that is not finite, and what the sessions raise.
    """
    left = [
        (turn, place)
        for turn in range(plan.rounds)
        for place in range(len(subjects.settings))
        if (place, turn) not in done
    ]
    places = sorted({place for _, place in left})
    inputs = _Inputs(subjects)
    _prepare(subjects, places)
    yield Ready()
    with ExitStack() as stack:
        calls: "Dict[int, Callable[[], object]]" = {}
        for place in places:
            opened, calls[place] = _open(stack, subjects, place, inputs)
            yield opened
        warm = set()
        for turn, place in left:
            warm_up = plan.settle if place in warm else plan.warm_up
            warm.add(place)
            yield Visit(place, turn, time_calls(calls[place], warm_up, plan.length.share(plan.rounds)))


def _prepare(subjects: Subjects, places: Sequence[int]) -> None:
    """Open what is opened later, once: imports of libraries and the building of engines are no part of ``init_ms``."""
    seen = set()
    for place in places:
        setting = subjects.settings[place]
        if (setting.bundle, setting.batch) not in seen:
            seen.add((setting.bundle, setting.batch))
            with subjects.open(setting):
                pass


def _open(
    stack: ExitStack, subjects: Subjects, place: int, inputs: "_Inputs"
) -> "Tuple[Opened, Callable[[], object]]":
    setting = subjects.settings[place]
    sessions: "List[Session]" = []
    started = datetime.now(timezone.utc).replace(microsecond=0).isoformat()
    init_ms = time_once_ms(lambda: sessions.append(stack.enter_context(subjects.open(setting))))
    session = sessions[0]
    calls = _calls(subjects, session, setting, inputs)
    first_ms = _first_ms(session, calls[0])
    turns = cycle(calls)
    opened = Opened(place, started, session.runtime, session.version, session.threads, init_ms, first_ms)

    def call() -> "Floats":
        return next(turns)()

    return opened, call


def _calls(
    subjects: Subjects, session: Session, setting: Setting, inputs: "_Inputs"
) -> "Sequence[Callable[[], Floats]]":
    """The calls that take turns, each on other faces."""
    if setting.timed == END_TO_END:
        return subjects.end_to_end(session, setting)
    return [partial(session.run, batch) for batch in inputs.batches(session, setting)]


def _first_ms(session: Session, call: "Callable[[], Floats]") -> float:
    """The duration of the first call; raises UserError where what it finds is not finite."""
    found: "List[Floats]" = []
    try:
        first_ms = time_once_ms(lambda: found.append(call()))
        finite = bool(np.isfinite(found[0]).all())
    except NonFiniteError:  # where heatmaps are decoded they are looked at there
        finite = False
    if not finite:
        raise UserError(
            f"bundle '{session.manifest.name}' in {session.runtime}: its heatmaps hold NaN or infinite"
            " values; export it again"
        )
    return first_ms


class _Inputs:
    """Normalised faces, made once for all the settings that take the same."""

    def __init__(self, subjects: Subjects):
        self._crops = subjects.crops
        self._largest_batch = max(setting.batch for setting in subjects.settings)
        self._made: "Dict[Tuple[object, ...], Float32]" = {}

    def batches(self, session: Session, setting: Setting) -> List[Float32]:
        """Different batches of one size; faces are repeated where there are fewer than the largest batch."""
        manifest, crops = session.manifest, self._crops(setting)
        key = (id(crops), manifest.layout, tuple(manifest.mean), tuple(manifest.std))
        if key not in self._made:
            faces = np.arange(max(min(len(crops), FACES), self._largest_batch)) % len(crops)
            self._made[key] = network_inputs(crops[faces], manifest)
        inputs, batch = self._made[key], setting.batch
        return [inputs[start : start + batch] for start in range(0, len(inputs) - batch + 1, batch)]
