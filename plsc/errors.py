"""Base class of the errors that plsc defines."""


class PlscError(Exception):
    """Base class of all errors that plsc defines, such as ConfigError, CheckpointError and ImageError.

    Most of them are also a ValueError or an OSError. Plain ValueError, OSError, ImportError and FloatingPointError are
    raised as well, for wrong arguments, missing files, missing packages and values that are not finite.
    """


class JobError(PlscError):
    """Another process of the job failed, ended or did not arrive in time.

    Args:
        text: The message, the same in every process.
        user_error: True if that process failed because of a mistake in the config or its files.
    """

    def __init__(self, text: str, user_error: bool = False) -> None:
        super().__init__(text)
        self.user_error = user_error
