"""What programs write when a connection fails, and backwards from that to the causes.

How to add a program: a file in `lines/`, one per program or family. Nothing is registered elsewhere. At its head:

    program = "nginx"                # as people call it
    pool = "http"                    # the connections it keeps: a key of `vocabulary.POOLS`
    writer = "upstream"              # of most of its lines: a key of `vocabulary.WRITERS`
    versions = "1.14 and later"      # for which the lines were read
    source = "nginx/nginx src/http"  # where; an entry may name its own
    setting = "keepalive_timeout of the `upstream` block: below the server's own"  # optional: what ends the usual fault

    around = [" {line} {number}/{number}"]  # optional: templates in which each entry's text stands for {line}

and then one entry for each kind of line:

    [[line]]
    text = "recv() failed ({errno}) while reading response header from upstream"  # a template: see `template`
    told = "recv {errno}"            # which call was told what: `vocabulary.TOLD`
    when = ["waiting for the answer"]  # what the line itself says: keys of `vocabulary.WHEN`
    source = "ngx_http_upstream_process_header()"
    example = "*7 recv() failed (104: Connection reset by peer) while reading response header from upstream, client: ::1"

`text` and `example` may be lists; every example must be matched by its entry. An entry may have `writer`, `pool`, `program`,
`versions`, `setting` of its own, and `case = true` where capitals count; `has`, literals of which one is in every such line,
where the longest of the template is no good to look for first. `not_tcp = "..."`, a sentence, stands instead of `told` where no
TCP connection failed, with `fine = true` where nothing failed at all. `part = true` is a line that passes on what a more telling
one beside it says ("fetch failed"): it counts only where nothing else is there. `beside = true` is a frame or a
class name that any trouble brings along: it says whose connection it was, and by itself nothing.
No entry names a cause: the causes follow from `told`, `writer` and `when` by the promises of the catalogue (`fitting`),
and their order from `likely.toml`.
"""
