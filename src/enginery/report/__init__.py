"""The report: what is known of a corpus, as one HTML page that needs nothing besides itself.

`contents` gathers the facts, `charts` and `timeline` draw them, `page` writes them down. Nothing
here knows doit or prints, and nothing that lies on the disk raises. The libraries of the extra
`report` are imported only where something is drawn.
"""
