"""A fault on a port, for anybody's client: `faultkit.serve`, the pytest fixtures and `faultkit serve` stand on it.

`fault + trigger + plan -> listening socket -> connections -> what each did`. One engine, an epoll inside a Trio task,
serves any number of servers; a connection gets a Trio task only when it has something to say.
"""
