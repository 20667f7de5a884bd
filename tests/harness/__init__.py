"""The test harness: container-like roots, real servers, and the clients people use.

Read in this order: `prepare` (what is fetched once), `layers` (how roots are made), `lan` and `box`
(what runs a test), then the servers (`slapd`, `oidc`) and the drivers (`ssh`, `hub`).
"""
