"""The farm: builds that this host cannot do, done where the hardware is, on Dask.

To who asks, the farm is a store that makes what it does not have: an engine comes back by digest,
is fetched from the worker, verified in full and published as if it had been built here.

docs/farm.md is the description, docs/security.md says what TLS protects and what it does not.
"""
