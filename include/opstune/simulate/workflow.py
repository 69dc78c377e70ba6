"""Failures that come again and again, what people did by hand each time, and the automation drafted from that.

The rule: each thing done by hand is one step, in order; what was only searched, noted or waited for by a person is
none. The trigger is the signal that came every time. What people did when it did not help is the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from opstune.simulate.alerts import numbers
from opstune.simulate.names import Names
from opstune.simulate.words import expand

Step = dict[str, str]


@dataclass(frozen=True)
class Pattern:
    """What recurs, and the draft that people agreed on."""

    failure: str
    frequency: str
    signals: dict[str, str]
    manual_steps: list[str]
    name: str
    trigger: str
    steps: list[Step]
    rollback: Step


@dataclass(frozen=True)
class _Habit:
    """A function and the failure that it is the remedy of; ``by_hand`` is how people say that they did it."""

    function: str
    stems: tuple[str, ...]
    failure: str
    signal: str
    by_hand: str
    name: str
    look: str
    healthy: str


_HABITS = (
    _Habit("restart_pod", ("web", "api", "task"), "[{thing} hangs|{thing} stops answering|{thing} freezes]",
           "ProbeFailed", "[deleted|restarted|killed] [{thing}|the pod]", "restart {thing}",
           "{thing} answers no probe", "{thing} is ready"),
    _Habit("rollback_deployment", ("rel", "ship"), "[a bad {thing} goes out|{thing} breaks after a release]",
           "ErrorsAfterRelease", "[rolled {thing} back|went back to the last release of {thing}]", "roll back {thing}",
           "{thing} was released within the hour", "errors of {thing} are gone"),
    _Habit("scale_out", ("api", "feed"), "[{thing} cannot keep up|{thing} is overrun at noon]", "ReplicasBusy",
           "[added replicas to|scaled out|gave more replicas to] {thing}", "scale out {thing}",
           "all replicas of {thing} are busy", "load of {thing} is below its target"),
    _Habit("raise_memory_limit", ("cache", "index"), "[{thing} is killed for memory|{thing} runs out of memory]",
           "KilledForMemory", "[raised the memory limit of|gave more memory to] {thing}", "raise memory of {thing}",
           "{thing} was killed for memory", "{thing} stays below its limit"),
    _Habit("drain_node", ("node", "rack"), "[{thing} reports io errors|{thing} loses pods]", "MachineErrors",
           "[drained|cordoned and emptied] {thing}", "drain {thing}", "{thing} logs new errors", "{thing} is empty"),
    _Habit("expand_volume", ("vol", "data"), "[{thing} fills up|{thing} runs out of space]", "VolumeNearlyFull",
           "[grew|expanded|enlarged] {thing}", "expand {thing}", "{thing} holds live data", "{thing} has free space"),
    _Habit("clean_disk", ("host", "vm"), "[old logs fill {thing}|{thing} is full of build files]", "DiskNearlyFull",
           "[removed old logs from|cleaned up] {thing}", "clean up {thing}", "old logs fill {thing}",
           "{thing} has free space"),
    _Habit("renew_certificate", ("tls", "cert"), "[{thing} is about to expire|{thing} runs out unnoticed]",
           "CertificateEndsSoon", "[issued {thing} again|renewed {thing}]", "renew {thing}",
           "{thing} ends within ten days", "{thing} is valid for months"),
    _Habit("fail_over_database", ("pg", "db"), "[primary {thing} refuses writes|{thing} stops taking writes]",
           "PrimaryRefusesWrites", "[promoted the replica of|failed over from] {thing}", "fail over from {thing}",
           "a replica of {thing} is in step", "writes succeed again"),
    _Habit("restart_consumer", ("readers", "sink"), "[{thing} stops reading|{thing} falls behind after a rebalance]",
           "ConsumerBehind", "[restarted the consumers of|started afresh] {thing}", "restart {thing}",
           "lag of {thing} grows", "lag of {thing} is gone"),
    _Habit("rerun_job", ("report", "bill"), "[{thing} is interrupted|{thing} ends early when its node goes]",
           "JobEndedEarly", "[started {thing} once more|ran {thing} again]", "rerun {thing}",
           "input of {thing} is whole", "{thing} has finished"),
    _Habit("block_client", ("bot", "agent"), "[{thing} floods us|{thing} sends far too many calls]", "CallerFloods",
           "[blocked {thing}|refused {thing}] at the [gateway|entry]", "block {thing}",
           "{thing} is over its quota", "calls are as usual"),
)  # fmt: skip
_OTHER_SIGNALS = ("NodeRebooted", "BackupLate", "DeployStarted", "TrafficHigh", "ConfigChanged", "QuietHours")
_CHECK = "[looked whether|checked that|made sure that] {what}"
_WAIT = "[waited until|stayed until|watched until] {what}"
_ASK = "[got a yes from|asked] {who}[ first|]"
_TELL = "[told|wrote to|posted in] {who}"
_NOISE = (
    "[searched the wiki for it|looked for the runbook|logged in|wrote down the time|opened the dashboard|"
    "found the right terminal|read the last postmortem|made coffee]"
)
_OWNERS = ("the owner", "the team lead", "the data owner", "the shift lead")
_CHANNELS = ("the incident channel", "the team channel", "support", "the status page")
#: What people did when it did not help → the way back.
_FALLBACK = {
    "page": "[called the person on duty|woke up the person on duty|phoned on-call]",
    "revert": "[put everything back as it was|undid it|took the change back]",
    "stop": "[left it as it was|touched nothing more|gave up and left it]",
}
_IF = "[if that did not help|when it went wrong|if it got worse]"
_FREQUENCY = "[{n} times a week|every {n} days|{n} times this month|{n} times in {mins} days]"


def draw(rng: Random, names: Names) -> Pattern:
    """A pattern about a thing of the incident's own, with one to six steps."""
    habit = rng.choice(_HABITS)
    slots: dict[str, object] = {**numbers(rng), "thing": names.coded(*habit.stems)}
    done = _done(rng, habit, slots)
    spoken = [sentence for sentence, _ in done]
    for _ in range(rng.choice((0, 1, 1, 2))):
        spoken.insert(rng.randint(0, len(spoken)), expand(rng, _NOISE, {}))
    way_back = rng.choice(tuple(_FALLBACK))
    spoken.append(f"{expand(rng, _IF, {})}, {expand(rng, _FALLBACK[way_back], {})}")
    times = rng.randint(4, 15)
    seen = {habit.signal: f"{times} of {times}"}
    for other in rng.sample(_OTHER_SIGNALS, rng.choice((1, 2, 2))):
        seen[other] = f"{rng.randint(1, times - 2)} of {times}"
    return Pattern(
        failure=expand(rng, habit.failure, slots),
        frequency=expand(rng, _FREQUENCY, slots),
        signals={signal: seen[signal] for signal in rng.sample(list(seen), len(seen))},
        manual_steps=spoken,
        name=habit.name.format_map(slots),
        trigger=habit.signal,
        steps=[step for _, step in done],
        rollback={"function": way_back, "when": f"unless {habit.healthy.format_map(slots)}"},
    )


def _done(rng: Random, habit: _Habit, slots: dict[str, object]) -> list[tuple[str, Step]]:
    """What people did, as they say it, with the step that stands for it."""
    look, healthy = habit.look.format_map(slots), habit.healthy.format_map(slots)
    owner, channel = rng.choice(_OWNERS), rng.choice(_CHANNELS)
    possible = (
        (0.7, _CHECK, look, "check"),
        (0.3, _ASK, owner, "approve"),
        (1.0, habit.by_hand, "", habit.function),
        (0.7, _WAIT, healthy, "wait"),
        (0.3, _CHECK, healthy, "check"),
        (0.8, _TELL, channel, "notify"),
    )
    return [
        (expand(rng, words, {**slots, "what": when, "who": when}), {"function": function, "when": when})
        for share, words, when, function in possible
        if rng.random() < share
    ]
