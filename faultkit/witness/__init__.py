"""The three witnesses: the program's calls, the packets, the kernel's counters and reset reasons. None of them judges."""
