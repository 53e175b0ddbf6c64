"""What counts as a fault: bounds that were set before anything was measured, each with its reason.

Whoever finds a bound too tight changes the program, or the bound and the reason beside it.
"""

__all__ = ["HANG", "KILL_AFTER", "LONGEST_SENTENCE", "MEMORY_MB", "SERVER_GROWTH_MB", "SERVER_MB"]

# Seconds for one file. Somebody who waits longer closes the window. Other programs may share the
# machine, so a case that was slower is tried once more, and the faster time counts.
HANG = 5.0
# Seconds after which a process that does not come back is ended: enough for a file that is slow on
# a busy machine to come back and be timed.
KILL_AFTER = 30.0
# Characters of a refusal. It names a file, a place in it and what was found there; what is longer
# is a dump.
LONGEST_SENTENCE = 900
# Highest memory of the whole process while it works on one file, in MB. Decoding a picture may take
# 450 MB (`expression.picture_decoding.MAX_BYTES`), Python with the networks takes about 200.
# torch and the readers of data take about 600 MB more before a file is opened.
MEMORY_MB = {
    "pictures": 700,
    "videos": 700,
    "onnx_files": 700,
    "checkpoints": 1300,
    "states": 1300,
    "data": 1500,
}
# The demo's server with 50 visitors: gradio and two networks take about 500 MB at rest, a picture
# 450 MB at the worst, and several are opened at once.
SERVER_MB = 2500
# What may stay when the visitors have gone: 200 sessions of 0.3 MB, four networks, and what
# Python's allocator keeps for later.
SERVER_GROWTH_MB = 500
