"""Label millions of pictures and long films: `expression label SOURCE --out DIR`.

Why: a folder of ten million pictures takes days on one machine, its list of names alone takes
gigabytes, and in days every machine fails once. Here the source is read as a stream, workers of
Ray Data answer, and one process writes the answers as parquet files, so that a run that was killed
goes on where it stood.

Needs the extra `scale`: ray[data], pyarrow, fsspec. No torch.
"""
