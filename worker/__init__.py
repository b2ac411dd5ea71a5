"""Process 2: segments series on a GPU or CPU and delivers the results."""
