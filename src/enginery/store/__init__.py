"""Content-addressed storage of engines: an OCI image layout on disk, an OCI registry beyond it.

Build once, use everywhere that it fits: what was built for a fingerprint is kept under that
fingerprint, with its provenance, and is believed only after every digest was checked again.
"""
