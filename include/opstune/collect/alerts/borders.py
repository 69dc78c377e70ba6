"""How far a history of episodes was read, and the state at the borders from which a later run may go on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from opstune.collect.alerts.annotations import Rendered
from opstune.collect.alerts.episodes import Episode, as_state, from_state, iso, milliseconds


class Borders:
    """The position of a source of episodes, as JSON in its watermark. Times are milliseconds since 1970.

    ``again`` is how far before the newest moment a later run begins. ``said`` holds what the monitor itself told about
    episodes while they fired: it is not to be had later. Until something was ``seen`` there is no position: an empty
    answer must not move the beginning.
    """

    def __init__(self, position: Mapping[str, Any], again: int) -> None:
        self._again = again
        self.seen = bool(position)
        self._through = milliseconds(datetime.fromisoformat(position["highest"])) if position else 0
        self._states: dict[int, list[dict[str, Any]]] = {
            int(border): states for border, states in position.get("borders", {}).items()
        }
        self.said = {name: Rendered({}, *said) for name, said in position.get("said", {}).items()}

    def start(self) -> tuple[int, list[Episode]] | None:
        """The border to go on from and the episodes that stood open there; none before the first run."""
        if not self._states:
            return None
        border = self._oldest_needed()
        return border, [from_state(state) for state in self._states[border]]

    def keep(self, border: int, episodes: Collection[Episode]) -> None:
        """Everything before a border is read; these episodes are not over there, or not all known about them."""
        self._states[border] = [as_state(episode) for episode in episodes]
        self.advance(border)

    def advance(self, through: int) -> None:
        """Everything before this moment is read. Borders that no later run can begin at are forgotten."""
        self._through = max(self._through, through)
        oldest = self._oldest_needed()
        self._states = {border: states for border, states in self._states.items() if border >= oldest}

    def position(self) -> dict[str, Any]:
        """As JSON; empty as long as nothing was seen."""
        if not self.seen:
            return {}
        return {
            "highest": iso(self._through),
            "borders": {str(border): states for border, states in sorted(self._states.items())},
            "said": {name: [dict(one.annotations), one.status] for name, one in self.said.items()},
        }

    def _oldest_needed(self) -> int:
        early = [border for border in self._states if border <= self._through - self._again]
        return max(early, default=min(self._states))
