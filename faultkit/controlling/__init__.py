"""Proxies over HTTP: the API that toxiproxy's clients speak, and a page.

Standing on `faultkit.proxying`, whose calls are done between two turns of the loop, no request waits for data. HTTP is
hypercorn's and Starlette's, in the Trio loop that passes the data.
"""
