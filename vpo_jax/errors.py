"""The one exception for what a user can mend."""


class UserError(ValueError):
  """A user's mistake, or a part of the user's set-up that failed.

  Its text is the one line that the user sees, so it names the file, row, flag or
  device, and what to do. `launch` prints it and exits with 1; anything else that is
  raised is a defect of ours and keeps its traceback.
  """
