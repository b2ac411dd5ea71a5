"""Parts of the reference pages that are made from the code, one module a subject."""
