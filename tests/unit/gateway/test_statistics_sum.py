"""The counts of replicas, added."""

from __future__ import annotations

from serve_apps.gateway.statistics_sum import added


def test_counts_and_durations_add_and_the_latest_time_holds() -> None:
    one = {"name": "m", "version": "1", "last_inference": 5, "inference_count": 2, "inference_stats": {"success": {"count": 2, "ns": 10}}}
    other = {**one, "last_inference": 3, "inference_stats": {"success": {"count": 1, "ns": 7}, "fail": {"count": 1, "ns": 1}}}
    assert added([one, other]) == {
        "name": "m",
        "version": "1",
        "last_inference": 5,
        "inference_count": 4,
        "inference_stats": {"success": {"count": 3, "ns": 17}, "fail": {"count": 1, "ns": 1}},
    }


def test_batches_add_by_their_size() -> None:
    def form(*sizes: int) -> dict[str, object]:
        return {"batch_stats": [{"batch_size": size, "compute_infer": {"count": 1}} for size in sizes]}

    assert added([form(1, 4), form(2, 4)])["batch_stats"] == [
        {"batch_size": 1, "compute_infer": {"count": 1}},
        {"batch_size": 2, "compute_infer": {"count": 1}},
        {"batch_size": 4, "compute_infer": {"count": 2}},
    ]
