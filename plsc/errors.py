"""Errors that a user can cause; all of them are a PlscError."""


class JobError(Exception):
    """Another process of the job failed, ended or did not arrive in time.

    Args:
        text: The message, the same in every process.
        user_error: True if that process failed because of a mistake in the config or its files.
    """

    def __init__(self, text: str, user_error: bool = False) -> None:
        super().__init__(text)
        self.user_error = user_error
