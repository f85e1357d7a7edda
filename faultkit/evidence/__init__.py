"""What was seen, and what follows from it. Pure: no sockets, no trio, no subprocess."""
