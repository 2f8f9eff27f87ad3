"""What the job plane answers about its core: whether a job fits, what would become of it, why it waits, who has used what.

All are called under the core's lock, read it, and leave it as it was.
"""

from fabric.plane.explaining import explanation
from fabric.plane.fits import check_fits, node_bytes
from fabric.plane.prospects import plan
from fabric.plane.usage import usage_rows

__all__ = ["check_fits", "explanation", "node_bytes", "plan", "usage_rows"]
