"""Reader of weights in untrusted pickles that never executes code from the file.

`paddle.save` and `torch.save` write pickles, and a pickle is a program. This reader only builds tensors and plain
containers; every other object becomes an `Unknown` without behavior. Neither torch nor Paddle is needed.
"""

from plsc.safe_pickle.files import read_pickle, read_state_file
from plsc.safe_pickle.machine import Unknown, UnsafeFileError

__all__ = ["Unknown", "UnsafeFileError", "read_pickle", "read_state_file"]
