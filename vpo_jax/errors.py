"""The exception for user errors."""


class UserError(ValueError):
  """A user error, or a failure of the user's setup.

  The message is one line. It names the file, row, flag or device, and says what to do.
  Launch scripts print it and exit with 1; any other exception is a defect and keeps its
  traceback.
  """
