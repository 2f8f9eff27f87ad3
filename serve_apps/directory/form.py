"""The one form in which models are shown: the API's answer and what the CLI prints from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from serve_apps.autoscaling.record import explain_decision
from serve_apps.directory.bill import Bill
from serve_apps.directory.core import Directory
from serve_apps.directory.records import DeployRecord, ReplicaReport, replica_price
from serve_apps.directory.table import ModelEntry
from serve_apps.tensors import ModelMetadata, TensorSpec


def model_form(
    entry: ModelEntry,
    records: Iterable[DeployRecord],
    reports: Mapping[str, list[ReplicaReport]],
    decisions: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """One model with its versions, newest first; `split` in ten-thousandths by deployment. `reports` and the autoscaler's `decisions`: by
    deployment."""
    told = {version: [{**one, "text": explain_decision(one)} for one in found] for version, found in decisions.items()}
    versions = [{**_version(record, reports.get(record.key, [])), "decisions": told.get(record.key, [])} for record in records]
    return {
        "name": entry.name,
        "default": entry.default,
        "split": dict(entry.split.shares) if entry.split else {},
        "shadow": asdict(entry.shadow) if entry.shadow else None,
        "aliases": {name: key for name, key in entry.names.items() if not name[:1].isdigit()},
        "versions": versions[::-1],
    }


def usage_rows(core: Directory, bill: Bill) -> list[dict[str, Any]]:
    """The rows of `fabric.usage_form.MODEL_ROW_KEYS` but for their shares: what is summed up, with what runs now."""
    living = core.table().models
    rows = []
    for row in bill.rows():
        records = core.records(row["name"]) if row["name"] in living else []
        found = [(record, report) for record in records for report in core.reports(row["name"], record.key) if not report.is_bridge]
        prices = [replica_price(record, report.flavor) for record, report in found]
        usd_per_h = None if None in prices else sum(price for price in prices if price is not None)
        rows.append({**row, "replicas": len(found), "usd_per_h": usd_per_h})
    return rows


def _version(record: DeployRecord, reports: list[ReplicaReport]) -> dict[str, Any]:
    metadata = record.metadata
    return {
        "version": record.version,
        "deployment": record.key,
        "state": record.state,
        "why": record.why,
        "user": record.user,
        "created_s": record.created_s,
        "source": record.source,
        "settings": dict(record.settings),
        "placement": dict(record.placement),
        "platform": metadata.platform if metadata else None,
        "kind": metadata.kind if metadata else None,
        "inputs": _specs(metadata, "inputs"),
        "outputs": _specs(metadata, "outputs"),
        "replicas": [_replica(report) for report in reports],
    }


def _replica(report: ReplicaReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "address": f"{report.host}:{report.port}",
        "node_id": report.node_id,
        "flavor": report.flavor,
        "is_bridge": report.is_bridge,
        "stats": dict(report.stats),
    }


def _specs(metadata: ModelMetadata | None, side: str) -> list[dict[str, Any]]:
    specs: tuple[TensorSpec, ...] = getattr(metadata, side) if metadata else ()
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
