"""The mining pool: jobs in, coins out, in worker processes."""
