"""What the job plane answers about its core: whether a job fits, what would become of it, why it waits, who has used what, and of what
was asked for.

All are called under the core's lock, read it, and leave it as it was.
"""

from fabric.plane.efficiency import efficiency_rows, job_efficiency
from fabric.plane.explaining import explanation
from fabric.plane.fits import check_fits, node_bytes
from fabric.plane.prospects import plan
from fabric.plane.usage import usage_rows

__all__ = ["check_fits", "efficiency_rows", "explanation", "job_efficiency", "node_bytes", "plan", "usage_rows"]
