"""What clients say when a connection fails: `faultkit clients` sees it, `faultkit which --message` reads it backwards.

`fault -> scene -> each client on real sockets -> message`, kept in messages.json. What they write by their source: `messages`.
"""
