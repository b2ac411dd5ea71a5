"""One module is one kind of place that a result is sent to."""
