"""What goes wrong at the made-up team: causes, the function each calls for, and the alerts that show them.

Invented alert names; a cause's wording and the alert's name together say which function is right.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Cause → how people and monitors word it. The same cause may call for another function under another alert.
CAUSES = {
    "release": (
        "[began|started|first seen|appeared|it set in] [{mins} minutes after|right after|just after|with|shortly "
        "after] "
        "[revision {rev}|release {rev}|rollout {rev}|deploy {rev}|version {rev}][ went live| went out| was "
        "rolled out|||]"
        "[, revision {old} was fine|, {old} had no such trouble|, nothing else changed|, the old version was "
        "healthy|||]"
    ),
    "stuck": (
        "[it hangs|it is stuck|it is deadlocked|the main loop is frozen|all threads wait for one lock|it makes "
        "no progress] "
        "[for {mins} minutes|since {clock}|after a lost connection|after {n} hours of uptime]"
        "[, the others work|, its siblings are healthy|, no error elsewhere|, nothing was deployed|||]"
    ),
    "load": (
        "[traffic|demand|load|the request rate] [is {n} times the usual|has grown {n} fold|is far above the forecast|"
        "keeps rising since {clock}] [and|while|;] [all replicas|every pod|each replica|the whole set] "
        "[sit at|run at|are at] {pct}% cpu"
    ),
    "memory": (
        "[killed for memory {n} times|the kernel killed it {n} times|out of memory {n} times today|oom killed again] "
        "[at its limit|at the {gib}Gi limit|under normal load|with a steady heap][, all replicas alike|, no leak "
        "was found|||]"
    ),
    "leak": (
        "[its heap|its memory|resident memory] [leaks|creeps up|grows without end] [since {clock}|for {n} hours|"
        "since its last start]"
        "[, only in this replica|, its siblings stay flat|, this one alone|||]"
    ),
    "hardware": (
        "[the kernel|the machine|its controller|the board] [logs|reports|shows] [{n} memory|{n} disk|{n} bus|{n} "
        "io|uncorrectable] "
        "errors[ since {clock}| and the count rises|, the vendor advises replacement|, {n} more than yesterday|||]"
    ),
    "rubbish": (
        "[old logs|rotated logs|unused images|stale archives|core dumps|leftover build files] "
        "[take|fill|occupy|hold] [{pct}% of it|{gib} GiB|most of the space|nearly all of it][, nobody needs them|"
        ", safe to delete|||]"
    ),
    "growth": (
        "[live data|customer data|the data set|real data|the index] [grows|grew|has grown] [by {gib} GiB a day|"
        "steadily|as planned]"
        "[, full in {n} hours|, nothing can be deleted|, all of it is needed|, full by {clock}|||]"
    ),
    "expiry": (
        "[it expires|it runs out|validity ends|the last valid day is] [in {n} days|in {n} hours|tomorrow at "
        "{clock}|on friday]"
        "[, no renewal was requested|, the issuer has no order for it|, automatic renewal is off|, nothing has "
        "renewed it|||]"
    ),
    "expired": (
        "[it expired|it ran out|validity ended|it lapsed] [{n} hours ago|{mins} minutes ago|at {clock}|this morning]"
        "[, no renewal was requested|, the issuer has no order for it|, automatic renewal is off|, nobody "
        "renewed it|||]"
    ),
    "reload": (
        "[a new one was issued|it was renewed|renewal succeeded] [at {clock}|{n} days ago|last night][ but|, yet|;] "
        "[this pod still serves the old one|the process never reloaded it|the old one is still in memory|the "
        "server kept the old copy]"
    ),
    "interrupted": (
        "[its node was reclaimed|a lost connection ended it|it was preempted|a brief network cut broke it|the "
        "spot machine went away] "
        "[at step {n}|at {clock}|{mins} minutes in|near the end][, input is intact|, the cause is gone|, safe to "
        "repeat|||]"
    ),
    "client": (
        "[one client|a single client|one caller|a lone consumer] [sends|makes|is behind|accounts for] {pct}% of "
        "[all calls|the requests|the attempts|the traffic][ since {clock}|, the others are normal|, far over its "
        "quota|||]"
    ),
}


@dataclass(frozen=True)
class Kind:
    """An alert: its name, what it carries as labels, how it is worded, and cause → function."""

    alert: str
    things: str
    decoys: str
    symptom: str
    functions: dict[str, str]


KINDS = (
    Kind(
        "PodOutOfRotation",
        "namespace pod deployment",
        "predecessor exporter sidecar",
        "[{pod}|a pod of {service}|one replica|a {service} pod] [fails its readiness probe|is not ready|gets no "
        "traffic|"
        "left the load balancer|does not answer probes] [for {mins} minutes|since {clock}|again]",
        {"stuck": "restart_pod", "release": "rollback_deployment"},
    ),
    Kind(
        "MemoryCeilingNear",
        "namespace deployment container pod",
        "predecessor sidecar exporter",
        "[{service}|container {container}|{container} in {pod}|a {service} container] [uses {pct}% of its memory limit|"
        "is close to its memory limit|keeps being restarted for memory|runs out of memory]",
        {"memory": "raise_memory_limit", "leak": "restart_pod"},
    ),
    Kind(
        "AnswersTooSlow",
        "namespace deployment gateway client",
        "exporter sidecar pod",
        "[{service} answers slowly|slow answers from {service}|p99 of {service} is {n} seconds|{service} latency "
        "over target|"
        "users wait for {service}] [for {mins} minutes|since {clock}|in {pct}% of calls]",
        {"load": "scale_out", "release": "rollback_deployment", "client": "block_client"},
    ),
    Kind(
        "FailedCallsOverTarget",
        "namespace deployment pod node",
        "predecessor exporter sidecar",
        "[{pct}% of {service} calls fail|{service} returns errors|errors from {service} rise|failed calls in {service}|"
        "{service} is over its error target] [for {mins} minutes|since {clock}|on one path|]",
        {"release": "rollback_deployment", "stuck": "restart_pod", "hardware": "drain_node"},
    ),
    Kind(
        "WorkQueueDeep",
        "namespace deployment pod",
        "predecessor exporter sidecar",
        "[{n}000 items wait in {service}|the {service} queue is long|oldest {service} item waits {mins} minutes|"
        "{service} works off its queue too slowly|the backlog of {service} grows][ since {clock}| and grows|]",
        {"load": "scale_out", "stuck": "restart_pod"},
    ),
    Kind(
        "ConsumerFallsBehind",
        "namespace deployment group topic",
        "dead_letters exporter",
        "[{group} lags {n}000 messages|lag of {group} on {topic} grows|{service} reads {topic} too slowly|"
        "messages on {topic} are {mins} minutes old|consumer lag of {service} is high][ since {clock}|]",
        {"stuck": "restart_consumer", "load": "scale_out"},
    ),
    Kind(
        "OffsetsFrozen",
        "namespace deployment group topic",
        "dead_letters exporter",
        "[{group} commits nothing|no commits on {topic}|committed offsets of {group} stand still|{topic} is not "
        "read any more|"
        "{service} stopped committing] [for {mins} minutes|since {clock}|on {n} partitions]",
        {"stuck": "restart_consumer", "release": "rollback_deployment"},
    ),
    Kind(
        "MachineUnwell",
        "node host mountpoint",
        "rack exporter device",
        "[{node}|machine {host}|the machine under {service}|a {service} machine] [reports bad health|is in poor shape|"
        "fails its health check|is degraded|raised a health flag] [for {mins} minutes|since {clock}|again]",
        {"hardware": "drain_node", "rubbish": "clean_disk"},
    ),
    Kind(
        "SpaceRunsOut",
        "host mountpoint namespace volume",
        "device exporter rack",
        "[{pct}% of {mountpoint} is used|{service} has little space left|{host} is short of space|only {n} GiB "
        "left for {service}|"
        "storage of {service} is at {pct}%][ since {clock}| on {mountpoint}|]",
        {"rubbish": "clean_disk", "growth": "expand_volume"},
    ),
    Kind(
        "ClaimFillForecast",
        "namespace volume deployment",
        "device exporter predecessor",
        "[{volume} will be full|the claim of {service} fills up|{volume} is at {pct}%|{service} fills its claim] "
        "[in {n} hours|soon|by {clock}|before morning|this shift]",
        {"growth": "expand_volume", "release": "rollback_deployment"},
    ),
    Kind(
        "TrustEndsSoon",
        "namespace certificate pod",
        "issuer exporter predecessor",
        "[{certificate}|the certificate of {service}|{service} tls|a {service} certificate] [ends soon|has few "
        "days left|"
        "is close to its end|is near expiry|is below the warning age]",
        {"expiry": "renew_certificate", "reload": "restart_pod"},
    ),
    Kind(
        "HandshakesRefused",
        "namespace certificate gateway client",
        "issuer exporter",
        "[tls handshakes with {service} fail|{gateway} counts refused handshakes|{n}000 handshakes were refused|"
        "handshake errors at {gateway}|{service} refuses tls sessions][ since {clock}| for {mins} minutes|]",
        {"expired": "renew_certificate", "client": "block_client"},
    ),
    Kind(
        "PrimaryUnwell",
        "cluster instance namespace deployment",
        "replica exporter",
        "[{instance} refuses writes|the primary of {cluster} is slow|{cluster} commits slowly|writes of {service} fail|"
        "the database of {service} is unwell][ for {mins} minutes| since {clock}|]",
        {"hardware": "fail_over_database", "release": "rollback_deployment"},
    ),
    Kind(
        "StandbyFarBehind",
        "cluster instance namespace volume",
        "replica exporter device",
        "[standbys of {cluster} are {mins} minutes behind|replication in {cluster} is late|{instance} ships no log|"
        "{cluster} replicas fall behind|the standby of {service} is stale][ since {clock}| and further every minute|]",
        {"hardware": "fail_over_database", "growth": "expand_volume"},
    ),
    Kind(
        "NightRunUnfinished",
        "namespace job deployment container",
        "last_run exporter",
        "[{job} did not finish|the night run of {service} is late|{job} ended early|{service} has no result from {job}|"
        "last night's {service} run is incomplete][ by {clock}| after {n} hours|]",
        {"interrupted": "rerun_job", "memory": "raise_memory_limit"},
    ),
    Kind(
        "BatchFailed",
        "namespace job deployment",
        "last_run exporter",
        "[{job} failed|batch {job} exited with {n}|a batch of {service} failed|{service} lost its batch|{job} is "
        "in state failed]"
        "[ at {clock}| after {mins} minutes| today|]",
        {"interrupted": "rerun_job", "release": "rollback_deployment"},
    ),
    Kind(
        "EdgeFlood",
        "gateway client namespace deployment",
        "region_gateway exporter",
        "[{gateway} drops {n}000 calls|{gateway} is flooded|too many calls reach {service}|{service} rejects "
        "calls at the edge|"
        "the edge of {service} is saturated][ for {mins} minutes| since {clock}|]",
        {"client": "block_client", "load": "scale_out"},
    ),
    Kind(
        "SignInsFail",
        "gateway client namespace deployment",
        "region_gateway exporter",
        "[{pct}% of sign-ins to {service} fail|failed sign-ins at {gateway}|{n}000 wrong passwords at {service}|"
        "sign-in errors of {service} jump|{service} turns sign-ins away][ for {mins} minutes| since {clock}|]",
        {"client": "block_client", "release": "rollback_deployment"},
    ),
    Kind(
        "MachineOverloaded",
        "node namespace deployment",
        "rack neighbour exporter",
        "[{node} is overloaded|{node} answers the scheduler late|pods on {node} are slow|{service} starves on {node}|"
        "run queue of {node} is {n}0][ for {mins} minutes| since {clock}|]",
        {"hardware": "drain_node", "load": "scale_out"},
    ),
)

#: Why no action is right although an alert came: each reads as the whole reason.
CALM = {
    "maintenance": (
        "[planned maintenance|announced maintenance|an approved maintenance window|scheduled maintenance|a "
        "declared work window|"
        "the agreed service window] [until {clock}|runs until {clock}|for {mins} more minutes|by the owning team]"
        "[, alerts are expected|, ignore this|, change {rev}|, silenced||]"
    ),
    "drill": (
        "[fire drill|pager test|monthly exercise|test alert|rehearsal|informational only|synthetic alert|"
        "training alert]"
        "[, no real fault|, nothing is broken|, for the record only|, please only acknowledge|, sent by the "
        "{service} team|, run {rev}]"
    ),
    "recovered": (
        "[it recovered|back to normal|healthy again|it cleared|all checks pass again|the value is below the "
        "threshold again] "
        "[by itself|without help|on its own|after {mins} minutes]"
        "[ at {clock}|, stable since {clock}|, and stays so|, nobody did anything||]"
    ),
    "acted": (
        "[the autopilot|automation|the operator bot|the self-healing job|runbook bot {n}] [already|has already] "
        "[fixed it|repaired this|took care of it|done the needful|remedied it|dealt with it][ at {clock}|, trend "
        "is good|, ticket {rev}||]"
    ),
}
