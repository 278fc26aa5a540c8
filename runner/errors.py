"""What can go wrong on a runner.

RunnerError
├── Rejected             the host's policy or the image refuses a task: the run fails, with the reason
├── EngineError          the container engine failed; the run is given back
│   └── ImageMissing     the deployment's image is not on this host
├── SourceGone           nobody has the source of a deployment any more
├── SidecarAway          the sidecar does not answer
└── CoordinatorAway      the coordinator does not answer, or refused the runner's key
"""

from __future__ import annotations


class RunnerError(Exception):
    """Base of the runner's errors."""


class NotEnrolled(RunnerError):
    """The coordinator takes neither this runner's key nor its token; the message says what to do."""


class Rejected(RunnerError):
    """This host will not run the task; the message says which option, its value and the remedy."""


class EngineError(RunnerError):
    """The container engine failed."""


class ImageMissing(EngineError):
    """The image is not on this host."""


class SourceGone(RunnerError):
    """Nobody has the source any more; the message is the coordinator's."""


class SidecarAway(RunnerError):
    """The sidecar does not answer."""


class CoordinatorAway(RunnerError):
    """The coordinator does not answer."""


class CoordinatorRefused(CoordinatorAway):
    """The coordinator answers, and will not take what it was sent however often it is sent again."""
