"""What the commands share: the group that finds them, their values, streams and exit statuses."""
