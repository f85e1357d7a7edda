"""`python -m faultkit`."""

from faultkit.cli import main

main()
