"""Timing many settings in turns, so that a drifting machine is fair to all. Python 3.6 syntax, see session.py."""

import time
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from itertools import cycle
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
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

from slimalign.runtimes.device_state import brief_state
from slimalign.runtimes.energy import Rail
from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.memory import ProcessMemory
from slimalign.runtimes.resting import hottest_c, rest
from slimalign.runtimes.session import Float32, Session
from slimalign.runtimes.timing_loop import Span, time_calls, time_once_ms

if TYPE_CHECKING:
    from typing import ContextManager

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Image = NDArray[np.uint8]

KERNEL, END_TO_END = TIMED = ("kernel", "end-to-end")
"""What a call that is timed does: the network's inference alone, or all from images to landmarks."""
FACES = 32
"""Faces that take turns as input, at most: real input varies, and memory is bounded."""


IDLE_SECONDS = 2.0
ENERGY_SPAN = Span(5, 2.0)
"""How long a rail is read at rest, and how long while calls follow one another."""
BUILT_PER_BATCH = "tensorrt"
"""The format whose engines are built for a batch size, so that each is opened beforehand."""


class Setting(NamedTuple):
    """What is measured: which of the bundles, on how many threads (None: all cores), at which batch size, by which of
    the backends; ``timed`` is one of TIMED.
    """

    bundle: int
    threads: Optional[int]
    batch: int
    backend: int = 0
    timed: str = KERNEL

    @property
    def cell(self) -> Tuple[int, int, int]:
        """What its memory hangs on: bundle, batch size and backend."""
        return (self.bundle, self.batch, self.backend)


class Plan(NamedTuple):
    """How long, see slimalign.runtimes.timing.Protocol; settings that are not ``interleaved`` are each measured in one
    go, the visits of one after another, and the device rests before each, see slimalign.runtimes.resting.
    """

    warm_up: Span
    settle: Span
    length: Span
    rounds: int
    interleaved: bool = True


class Ready(NamedTuple):
    """All libraries are loaded and all engines built: now measuring begins.

    ``steps`` are all events of the whole sweep after this one, ``rail`` is the name of what energy is read from.
    """

    steps: int
    rail: Optional[str]


class MeasuredMemory(NamedTuple):
    """What a process had in memory that ran a bundle at a batch size by a backend alone, see ProcessMemory.

    None where that cannot be told; then ``why`` says what is in the way.
    """

    bundle: int
    batch: int
    backend: int
    peak_mb: Optional[float]
    libraries_mb: Optional[float]
    why: str


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
    """A setting's share of one round: durations of single calls in the order they were made.

    ``state`` is that of the device at its beginning, see brief_state, where settings are not interleaved.
    """

    place: int
    turn: int
    samples_ms: List[float]
    state: Optional[Dict[str, Any]] = None


class MeasuredEnergy(NamedTuple):
    """What the rail gave at rest and in all while calls followed one another, in watts, and for one call."""

    place: int
    rail: str
    idle_w: float
    total_w: float
    call_mj: float


Event = Union[Ready, MeasuredMemory, Opened, Visit, MeasuredEnergy]


def kernel_alone(session: Session, setting: Setting) -> "Sequence[Callable[[], Floats]]":
    """For a sweep that times nothing from images to landmarks."""
    return ()


class Subjects(NamedTuple):
    """What is measured, and how to get at it.

    ``open`` opens a setting's session; ``crops`` gives its faces, (N, S, S, 3) uint8 RGB, N >= 1, the same array for
    the same faces. ``end_to_end`` gives the calls that take turns in a setting of that kind, see
    slimalign.runtimes.end_to_end. ``memory_of`` tells the memory of a process that runs a setting alone, or why it
    cannot be told; ``rail`` is what tells the energy. Without them neither is measured.
    """

    settings: Sequence[Setting]
    open: "Callable[[Setting], ContextManager[Session]]"
    crops: "Callable[[Setting], Image]"
    end_to_end: "Callable[[Session, Setting], Sequence[Callable[[], Floats]]]" = kernel_alone
    memory_of: "Optional[Callable[[Setting], Union[ProcessMemory, str]]]" = None
    rail: Optional[Rail] = None


def sweep(subjects: Subjects, plan: Plan, kept: Sequence[Event] = ()) -> Iterator[Event]:
    """Open every setting, then visit all of them once a round; each event comes as soon as it has happened.

    Every other round goes backwards, so that all settings are visited at the same time on average: a machine that gets
    slower or faster in the same measure favours none, over an even number of rounds. Memory is measured before anything
    is opened to be timed, energy after the visits. ``kept`` are the events of an earlier sweep that was broken off:
    what is left of it is done. A setting that is measured in one go begins anew, since a device that has rested is
    another one. Every setting has a session of its own, so that its ``init_ms`` and ``first_ms`` belong to it. Raises
    UserError for output that is not finite, and what the sessions raise.
    """
    settings, rail = subjects.settings, subjects.rail
    start_c = _start_c(kept)
    turns = plan.rounds + (rail is not None)  # the last is that of the energy
    done = _done(kept, plan, turns)
    there = range(len(settings))
    left = [
        (turn, place)
        for turn in range(turns)
        for place in (reversed(there) if turn % 2 else there)
        if (place, turn) not in done
    ]
    places = sorted({place for _, place in left})
    cells = list(dict.fromkeys(one.cell for one in settings)) if subjects.memory_of is not None else []
    _prepare(subjects, places)
    yield Ready(len(cells) + len(settings) * (1 + turns), None if rail is None else rail.name)
    yield from _memory(subjects, cells, kept)
    idle_w = None if rail is None or not left else _idle_w(rail)
    inputs = _Inputs(subjects)
    for group in [places] if plan.interleaved else [[place] for place in places]:
        mine = [(turn, place) for turn, place in left if place in group]
        if not plan.interleaved:
            rest(start_c, plan.length.seconds)
        yield from _visits(subjects, plan, mine, inputs, idle_w)


def _start_c(kept: Sequence[Event]) -> Optional[float]:
    """How warm the device was before anything was done, or where that was broken off, before the first visit."""
    for event in kept:
        if isinstance(event, Visit) and event.state is not None:
            return event.state["hottest_c"]  # type: ignore[no-any-return]
    return hottest_c()


def _done(kept: Sequence[Event], plan: Plan, turns: int) -> "set[Tuple[int, int]]":
    """The visits (place, turn) that need not be done again."""
    done: "set[Tuple[int, int]]" = set()
    for event in kept:
        if isinstance(event, Visit):
            done.add((event.place, event.turn))
        elif isinstance(event, MeasuredEnergy):
            done.add((event.place, plan.rounds))
        elif isinstance(event, Opened) and not plan.interleaved:
            done = {(place, turn) for place, turn in done if place != event.place}
    if plan.interleaved:
        return done
    return {(place, turn) for place, turn in done if all((place, one) in done for one in range(turns))}


def _memory(
    subjects: Subjects, cells: "Sequence[Tuple[int, int, int]]", kept: Sequence[Event]
) -> Iterator[MeasuredMemory]:
    known = {
        (event.bundle, event.batch, event.backend) for event in kept if isinstance(event, MeasuredMemory)
    }
    for cell in cells:
        if cell not in known and subjects.memory_of is not None:
            found = subjects.memory_of(next(one for one in subjects.settings if one.cell == cell))
            if isinstance(found, ProcessMemory):
                yield MeasuredMemory(*cell, found.peak_mb, found.libraries_mb, "")
            else:
                yield MeasuredMemory(*cell, None, None, found)


def _idle_w(rail: Rail) -> Optional[float]:
    found = rail.measure(lambda: time.sleep(IDLE_SECONDS))
    return None if found is None else found.watts


def _visits(
    subjects: Subjects,
    plan: Plan,
    left: "Sequence[Tuple[int, int]]",
    inputs: "_Inputs",
    idle_w: Optional[float],
) -> Iterator[Event]:
    """Open what is visited in the turns ``left``, and visit it."""
    with ExitStack() as stack:
        calls: "Dict[int, Callable[[], object]]" = {}
        for place in sorted({place for _, place in left}):
            opened, calls[place] = _open(stack, subjects, place, inputs)
            yield opened
        warm = set()
        for turn, place in left:
            if turn < plan.rounds:
                state = None if plan.interleaved else brief_state()
                warm_up = plan.settle if place in warm else plan.warm_up
                warm.add(place)
                samples_ms = time_calls(calls[place], warm_up, plan.length.share(plan.rounds))
                yield Visit(place, turn, samples_ms, state)
            elif subjects.rail is not None and idle_w is not None:
                energy = _energy(subjects.rail, place, calls[place], plan.settle, idle_w)
                if energy is not None:
                    yield energy


def _energy(
    rail: Rail, place: int, call: "Callable[[], object]", settle: Span, idle_w: float
) -> Optional[MeasuredEnergy]:
    time_calls(call, settle, Span(1, 0.0))
    made: List[float] = []
    found = rail.measure(lambda: made.extend(time_calls(call, Span(0, 0.0), ENERGY_SPAN)))
    if found is None:
        return None
    return MeasuredEnergy(place, rail.name, idle_w, found.watts, 1e3 * found.joules / len(made))


def _prepare(subjects: Subjects, places: Sequence[int]) -> None:
    """Open what is opened later, once: imports of libraries and the building of engines are no part of ``init_ms``."""
    formats: "Dict[Tuple[int, int], str]" = {}
    seen = set()
    for place in places:
        setting = subjects.settings[place]
        key = (setting.bundle, setting.backend)
        if setting.cell not in seen and formats.get(key, BUILT_PER_BATCH) == BUILT_PER_BATCH:
            seen.add(setting.cell)
            with subjects.open(setting) as session:
                formats[key] = session.manifest.format


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
