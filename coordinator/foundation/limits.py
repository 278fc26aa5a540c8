"""The coordinator's fixed numbers: times in seconds, sizes in bytes."""

from __future__ import annotations

#: How long an attempt or a build is believed alive after its runner was last heard.
LEASE = 30.0
#: An attempt claimed longer ago than this that its runner's heartbeat does not name never reached it.
UNNAMED = 10.0
#: A runner heard within this time counts as live.
RUNNER_ALIVE = 30.0
#: The longest between two sweeps.
SWEEP = 5.0
#: How long what has ended waits to be counted, at the most, where there is little.
OBSERVE = 2.0
#: A tick that is less late than this is fired, whatever its schedule does about those it missed.
TICK_GRACE = 60.0
#: Missed ticks of one schedule that are made up in one transaction.
TICKS_AT_ONCE = 100
#: How often a run may be lost by the platform and still be queued again.
PLATFORM_RETRIES = 5
#: How often a build may be lost with its runner.
BUILD_TRIES = 3
#: How long after the first failure an image is tried to be built again; doubled with each, up to the longest.
REBUILD_AGAIN = 60.0
REBUILD_LONGEST = 3600.0
#: A rebuild that the runner which missed the image has not begun after so long is anybody's.
REBUILD_ANYBODY = 60.0
#: A run that fits a runner's host but not what is free there holds younger runs back after this long,
#: so that a large run is not passed by small ones for ever.
STARVING = 60.0

KIB = 1024
MIB = 1024 * KIB
#: Largest encoded payload, result or checkpoint value (the same number as the SDK's).
MAX_VALUE = 10 * MIB
#: Lists and objects of a value inside one another, as JSON. The parser of those that read it next (the runner,
#: the sidecar) gives up at 200: a value beyond that would be taken here and never get into a container again.
MAX_DEPTH = 150
#: Above this a value is kept in the blob store and the row holds its name: what is large is written outside of
#: transactions, since everybody's wait for the one that is being committed.
INLINE = 64 * KIB
#: Largest payload of an event: it is matched against filters where it stands, so it stays in its row.
MAX_EVENT = 512 * KIB
#: Largest payload of a run that its on_failure task is told of.
MAX_TOLD = 512 * KIB
#: Largest body of a delivery to a webhook.
MAX_DELIVERY = MIB
#: How far the time in a webhook's signature may be off.
SIGNATURE_TOLERANCE = 300.0
#: Largest secret.
MAX_SECRET = 64 * KIB
#: Of all that a task is given.
MAX_RUN_SECRETS = 512 * KIB
#: Checkpoints of one run, and the bytes of their values together.
MAX_CHECKPOINTS = 10_000
MAX_CHECKPOINT_BYTES = 1024 * MIB
#: Waits of one run, triggers of children among them; and what a token may be completed with.
MAX_WAITS = 10_000
MAX_TOKEN_VALUE = 512 * KIB
#: Runs that may stand above a run, and runs that one run may trigger.
MAX_RUN_DEPTH = 32
MAX_CHILDREN = 10_000
#: How children ended is sent unasked up to so many bytes of results together.
CHILDREN_INLINE = MIB
#: A page of checkpoints ends with the one that passes this: their values are in it.
CHECKPOINT_PAGE = 16 * MIB
#: Checkpoints sent along with an assignment, together.
PRELOAD = 256 * KIB
#: Largest body of a JSON request: a value of MAX_VALUE with its envelope, log lines and escapes.
MAX_BODY = 24 * MIB
#: Largest body of a public request that carries a value; of one that carries none.
MAX_VALUE_BODY = MAX_VALUE + 64 * KIB
MAX_SMALL_BODY = MIB
#: Lists, objects and members of a JSON body, and how deep they may be: a value with its envelope.
MAX_BODY_NODES = 500_000
MAX_BODY_DEPTH = MAX_DEPTH + 20
#: What a key may have in flight at once: requests, bytes of their bodies; and long polls and streams.
KEY_REQUESTS = 256
KEY_BYTES = 64 * MIB
KEY_POLLS = 128
#: The same of a runner's key (many hosts share one), and of one attempt: more than its sidecar ever sends at once.
RUNNER_REQUESTS = 4096
RUNNER_BYTES = 512 * MIB
ATTEMPT_REQUESTS = 64
ATTEMPT_BYTES = 512 * MIB
#: The same of an address that shows no key; and how many wrong requests it may send at once, and per second.
ADDRESS_REQUESTS = 128
ADDRESS_BYTES = 32 * MIB
ADDRESS_BURST = 300
ADDRESS_RATE = 20.0
#: Largest source of a deployment, as uploaded.
MAX_SOURCE = 256 * MIB
#: Bytes of a file that one request takes, and files that one run keeps.
FILE_PART = 8 * MIB
MAX_RUN_FILES = 1000
#: Smallest memory a task may ask for.
MIN_MEMORY = 32 * MIB
#: Largest number of bytes a memory field may name (it has to fit the database's integers).
MAX_MEMORY = 2**50
#: Longest a run may be delayed.
MAX_DELAY = 366 * 86400.0
#: How many times its delay a debounced run is put off at most, where the trigger does not say.
DEBOUNCE_FACTOR = 10
#: Most runs of one batch.
MAX_BATCH = 1000
#: How far `why` counts who stands before a run.
MAX_POSITION = 10_000
#: Of a run's trace: the latest attempts, checkpoints, waits and children that are spans of it; the attempts that
#: its ledger is added up over; and how far what is left out is counted.
TRACE_ATTEMPTS = 50
TRACE_CHECKPOINTS = 500
TRACE_WAITS = 500
TRACE_CHILDREN = 200
TRACE_LEDGER = 2_000
MAX_COUNTED = 10_000
#: Longest hold of a long poll.
MAX_POLL = 60.0
MAX_METADATA = 64 * KIB
MAX_ERROR_MESSAGE = 16 * KIB
MAX_TRACEBACK = 256 * KIB
