"""A sweep as lines of JSON, told from its beginning or gone on with. Python 3.6 syntax, see session.py."""

from typing import Any, Dict, Iterator, Sequence

from slimalign.runtimes.device_state import UNKNOWN, device_state, load_average
from slimalign.runtimes.journal import Entry, conditions
from slimalign.runtimes.session import available_cores
from slimalign.runtimes.sweep import (
    Event,
    MeasuredEnergy,
    MeasuredMemory,
    Opened,
    Plan,
    Ready,
    Subjects,
    Visit,
    sweep,
)

EVENTS: "Dict[str, Any]" = {
    "memory": MeasuredMemory,
    "opened": Opened,
    "visit": Visit,
    "energy": MeasuredEnergy,
}
"""The kinds of entries that are events."""


def sweep_entries(subjects: Subjects, plan: Plan, kept: Sequence[Entry] = ()) -> Iterator[Entry]:
    """Sweep, see slimalign.runtimes.sweep; ``kept`` are the entries of one that was broken off.

    Beside the entries of its events there are ``before`` and ``after`` with the machine's state. ``before`` also has
    the ``conditions`` under which it may be gone on with, the ``steps`` to be done in all, and the machine's ``cores``
    and the ``load`` on them before anything was done, None where it is not known.
    """
    loads = load_average()
    load = None if loads == UNKNOWN else loads[0]
    for event in sweep(subjects, plan, [event_of(one) for one in kept if one["kind"] in EVENTS]):
        if isinstance(event, Ready):
            state = device_state()
            yield {
                "kind": "before",
                "state": state,
                "conditions": conditions(state),
                "steps": event.steps,
                "cores": available_cores(),
                "load": load,
            }
        else:
            yield entry_of(event)
    yield {"kind": "after", "state": device_state()}


def entry_of(event: Event) -> Entry:
    """The event as it is kept and told."""
    kind = next(name for name, made in EVENTS.items() if isinstance(event, made))
    return dict(event._asdict(), kind=kind)


def event_of(entry: Entry) -> Any:
    """The event that ``entry_of`` told."""
    return EVENTS[entry["kind"]](**{name: value for name, value in entry.items() if name != "kind"})
