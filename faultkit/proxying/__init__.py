"""A real service behind a fault: `faultkit.proxy`, the fixture `fault_proxy` and `faultkit proxy` stand on it.

`door -> connection -> two sides -> what is between them`. One thread, one epoll: a connection is two sockets with their
counters, and bytes go from one to the other without a task, a buffer or a pipe of its own. Only a direction that has a toxic
or a fault on it goes through stages, and only while it has.
"""
