"""What this is the version of, where it is told."""

VERSION = "0.1.0"
