"""The exception for user errors."""

import errno

# Of an OSError that the user has to fix: a full disk, missing permission.
FOR_THE_USER = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(ValueError):
  """A user error, or a failure of the user's setup.

  The message is one line. It names the file, row, flag or device, and says what to do.
  Launch scripts print it and exit with 1; any other exception is a defect and keeps its
  traceback.
  """
