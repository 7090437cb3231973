"""Reads weights out of pickles that others wrote, without letting them run anything.

`paddle.save` and `torch.save` write pickles, and a pickle is a program. Here it may only build tensors and plain
containers: every other object it asks for becomes an `Unknown`, which does nothing. Neither torch nor Paddle is needed.
"""

from plsc.safe_pickle.files import read_pickle, read_state_file
from plsc.safe_pickle.machine import Unknown, UnsafeFileError

__all__ = ["Unknown", "UnsafeFileError", "read_pickle", "read_state_file"]
