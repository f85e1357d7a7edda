"""Timeouts that must nest: the timers of every hop between a client and a server, and which must be the longer."""
