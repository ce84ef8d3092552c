"""What can go wrong in the mining pool.

MinerError
├── SettingError  a setting that cannot be applied: the caller's fault
│   ├── BadWorkerCountError
│   ├── BadNiceError
│   ├── BadAffinityError
│   ├── BadCpuCapError
│   ├── BadJobError
│   └── JobNotNewerError
└── WorkerError   a worker process was lost or is not to be believed: it is replaced
    ├── WorkerNotStartedError
    ├── WorkerDiedError
    └── CorruptResultError
        ├── BadFrameError
        ├── ForeignPrefixError
        ├── NonceOutOfShareError
        ├── WrongIdError
        └── ResultHighHashError
"""

from __future__ import annotations


class MinerError(Exception):
    """Anything that the mining pool raises."""


class SettingError(MinerError, ValueError):
    """A setting or a job that the pool cannot take."""


class BadWorkerCountError(SettingError):
    """The number of workers is out of bounds."""

    def __init__(self, actual: int, most: int) -> None:
        super().__init__(f"the number of workers must be 1 to {most}, got {actual}")
        self.actual = actual


class BadNiceError(SettingError):
    """The nice level is out of bounds: a worker never runs at a higher priority than the node."""

    def __init__(self, actual: int, least: int) -> None:
        super().__init__(f"the nice level must be {least} (the node's own) to 19, got {actual}")
        self.actual = actual


class BadAffinityError(SettingError):
    """The CPUs to run on are none, or include one that this process may not use."""

    def __init__(self, actual: tuple[int, ...], usable: tuple[int, ...]) -> None:
        known = ", ".join(map(str, usable)) or "none: this system cannot pin processes"
        given = ", ".join(map(str, actual)) or "none"
        super().__init__(f"the affinity must name CPUs among {known}; got {given}")
        self.actual = actual


class BadCpuCapError(SettingError):
    """The CPU-time cap is no percentage from 1 to 100."""

    def __init__(self, actual: int) -> None:
        super().__init__(f"the CPU-time cap must be 1 to 100 percent, got {actual}")
        self.actual = actual


class BadJobError(SettingError):
    """A field of a job is out of bounds."""

    def __init__(self, field: str, expected: str, actual: object) -> None:
        super().__init__(f"a job's {field} must be {expected}, got {actual}")
        self.field = field


class JobNotNewerError(SettingError):
    """Job numbers rise: a job cannot supersede one of the same or a higher number."""

    def __init__(self, actual: int, last: int) -> None:
        super().__init__(f"a job's number must be above {last}, that of the last one, got {actual}")
        self.actual = actual


class WorkerError(MinerError):
    """A worker process must be replaced."""


class WorkerNotStartedError(WorkerError):
    """The operating system did not start the worker."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"the worker could not be started: {reason}")


class WorkerDiedError(WorkerError):
    """The worker ended by itself or was killed."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the worker ended: {how}")


class CorruptResultError(WorkerError):
    """The worker sent what no sound worker sends."""


class BadFrameError(CorruptResultError):
    """A result of the wrong length or kind."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the worker sent a malformed result: {what}")


class ForeignPrefixError(CorruptResultError):
    """The header is not the stated job's."""

    def __init__(self, job_number: int) -> None:
        super().__init__(f"the worker sent a header that is not that of job {job_number}")


class NonceOutOfShareError(CorruptResultError):
    """The nonce is not in the worker's share of the job."""

    def __init__(self, nonce: int, share: range) -> None:
        super().__init__(
            f"the worker sent nonce {nonce}, outside its share {share.start} to {share.stop - 1}"
        )


class WrongIdError(CorruptResultError):
    """The id is not the hash of header and mix."""

    def __init__(self, expected: bytes, actual: bytes) -> None:
        super().__init__(f"the worker sent id {actual.hex()} for the coin {expected.hex()}")


class ResultHighHashError(CorruptResultError):
    """The id does not meet the job's target."""

    def __init__(self, target: int, coin_id: bytes) -> None:
        super().__init__(f"the worker sent id {coin_id.hex()}, above the target {target:064x}")
