"""Why did the connections in this capture die? Captures and pasted rows in; flows, endings and causes out.

`bytes -> frames (files) -> segments (layers; or rows, of text) -> connections (flows) -> what ended each (endings) -> Diagnosis`.
Nothing here opens a socket or knows trio: what was captured elsewhere is all that there is.
"""
