"""The exit statuses."""

PRODUCED, OTHERWISE, MISUSED, UNABLE = 0, 1, 2, 3
UNFORESEEN = 70  # sysexits.h: EX_SOFTWARE
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal's number, as a shell says it
