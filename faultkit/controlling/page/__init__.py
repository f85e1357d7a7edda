"""The page: what the proxies do at this moment, and switches."""
