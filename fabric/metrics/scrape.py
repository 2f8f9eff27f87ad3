"""What Prometheus should read: a whole configuration file, for a Prometheus on the head. Pure text."""

from __future__ import annotations

DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"
"""Ray's head keeps the addresses of all nodes' agents there; the fabric's metrics are among theirs."""
_TEXT = """\
# Made by `fabric metrics export-dashboard`. On the head: prometheus --config.file=prometheus.yml
global:
  scrape_interval: 10s      # Ray's agents have news every 10 s
  evaluation_interval: 10s

scrape_configs:
  # Every node's metrics agent, as Ray's head lists them: Ray's metrics and, as ray_fabric_…, the fabric's. They need no token.
  # For a Prometheus on another machine take, instead of the file, the dashboard's list:
  #   http_sd_configs: [{{url: "http://HEAD:8265/api/prometheus/sd", authorization: {{credentials_file: /etc/prometheus/ray_token}}}}]
  - job_name: ray
    file_sd_configs:
      - files: ["{discovery}"]
        refresh_interval: 30s

  # What passes the way in to models, as its gateway counts it, and what replicas say of themselves.
  - job_name: fabric-serving
    static_configs:
      - targets: ["{serving}"]
"""


def scrape_yaml(serving: str) -> str:
    """`serving`: `host:port` of the address at which models answer."""
    return _TEXT.format(discovery=DISCOVERY, serving=serving)
