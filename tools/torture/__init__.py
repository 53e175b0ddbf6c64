"""Attacks on the project: broken files, kills, a full disk, many visitors at once.

Why: what SECURITY.md promises is worth what has tried to break it. `make torture` runs every
attack, seeded and on this machine alone, and writes `results/torture.json` and
`results/TORTURE.md`. A short form of each runs in tests/integration/test_torture.py.

    python -m tools.torture                              all attacks, within half an hour
    python -m tools.torture --only pictures --share 0.1  a tenth of one
    python -m tools.torture --only pictures --case 1234  one case again, with what went wrong
"""
