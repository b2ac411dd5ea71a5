"""Generated pictures with a known vessel tree, one function for each kind of imaging."""

from console.demo.phantom_angiography import angiography_run
from console.demo.phantom_ct import contrast_ct
from console.demo.phantom_fundus import fundus_photograph

__all__ = ["angiography_run", "contrast_ct", "fundus_photograph"]
