"""Generated studies with a known vessel tree: what `vesselq demo` sends and what tests measure against."""
